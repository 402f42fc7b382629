"""Meters and joule arithmetic: what a device draws, and whose joules they were.

Knows nothing of serving or scaling. Start at `open_meter` and `Ledger`.
"""

from energy.apportion import Ledger, Totals, Window
from energy.modelled import ModelledMeter, tree_cpu_s
from energy.opening import open_meter
from energy.reading import (
    MeterSpecError,
    MeterUnavailable,
    PowerMeter,
    Reading,
    Telemetry,
    Unknown,
)
from energy.tally import Tally

__all__ = [
    "Ledger",
    "MeterSpecError",
    "MeterUnavailable",
    "ModelledMeter",
    "PowerMeter",
    "Reading",
    "Tally",
    "Telemetry",
    "Totals",
    "Unknown",
    "Window",
    "open_meter",
    "tree_cpu_s",
]
