"""Meters and joule arithmetic: what a device draws, and whose joules they were.

Knows nothing of serving or scaling. Start at `open_meter` and `Ledger`.
"""

from energy.apportion import Ledger, Totals, Window
from energy.opening import open_meter
from energy.reading import (
    MeterSpecError,
    MeterUnavailable,
    PowerMeter,
    Reading,
    Telemetry,
    Unknown,
)

__all__ = [
    "Ledger",
    "MeterSpecError",
    "MeterUnavailable",
    "PowerMeter",
    "Reading",
    "Telemetry",
    "Totals",
    "Unknown",
    "Window",
    "open_meter",
]
