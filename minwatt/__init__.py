"""The client of minwatt's inference server, and the `minwatt` command.

Importing it brings in none of the components.
"""

from minwatt.client import AsyncClient, Client
from minwatt.failures import RequestFailed, Violation
from minwatt.results import Classification, Entity, Extraction, Label, Model, Reply, Usage

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Entity",
    "Extraction",
    "Label",
    "Model",
    "Reply",
    "RequestFailed",
    "Usage",
    "Violation",
]
