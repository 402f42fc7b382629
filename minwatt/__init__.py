"""The client of minwatt's inference server, and the `minwatt` command.

Importing it brings in none of the components.
"""

from minwatt.channels import Tls
from minwatt.client import AsyncClient, Client
from minwatt.failures import (
    DeadlineExceeded,
    InvalidRequest,
    NotServed,
    Overloaded,
    PermissionDenied,
    RequestFailed,
    Unauthenticated,
    Unavailable,
    Violation,
)
from minwatt.results import Classification, Entity, Extraction, Label, Model, Reply, Usage
from minwatt.streaming import RequestStream

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "Entity",
    "Extraction",
    "InvalidRequest",
    "Label",
    "Model",
    "NotServed",
    "Overloaded",
    "PermissionDenied",
    "Reply",
    "RequestFailed",
    "RequestStream",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "Violation",
]
