"""Quantities as people write them (`50ms`, `1200W`, `0.1%`): text in, SI floats out, and back for people.

Owns the units and the wording of a bad quantity. Called by whatever reads flags or files; ranges are theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BeforeValidator

DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
POWERS = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}
FRACTIONS = {"%": 0.01}
_BYTES = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "k": 1e3, "M": 1e6, "G": 1e9}  # as Kubernetes has them
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ%]+)\s*", re.ASCII)


def parse_duration_s(value: object) -> float:
    """`50ms`, `1.5s`, `2m` as seconds; a bare 0 is allowed. Raises ValueError that says what is."""
    if value in (0, "0") and not isinstance(value, bool):
        return 0.0
    return _parse(value, DURATIONS, "a duration such as 50ms, 5s, 2m or 1h")


def parse_power_w(value: object) -> float:
    """`1200W`, `1.2kW` as watts. Raises ValueError that says what is allowed."""
    return _parse(value, POWERS, "a power such as 20W or 1.2kW")


def parse_fraction(value: object) -> float:
    """`0.1%` as 0.001. Raises ValueError that says what is allowed."""
    return _parse(value, FRACTIONS, "a percentage such as 0.1%")


def parse_bytes(value: object) -> float:
    """`400Mi`, `2G`, or a whole number of bytes. Raises ValueError that says what is allowed."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return float(value)
    return _parse(value, _BYTES, "bytes such as 400Mi, 2Gi or 1000000")


def format_bytes(size_bytes: float) -> str:
    """Bytes in Gi, Mi or Ki: 419430400 is `400Mi`."""
    return _format(size_bytes, {unit: _BYTES[unit] for unit in ("Ki", "Mi", "Gi")}) if size_bytes else "0"


def format_duration(duration_s: float) -> str:
    """Seconds in the largest unit that keeps the number at 1 or above: 0.05 is `50ms`."""
    return _format(duration_s, DURATIONS) if duration_s else "0s"


def format_power(power_w: float) -> str:
    """Watts in W, kW or mW: 1200.0 is `1.2kW`."""
    return _format(power_w, POWERS) if power_w else "0W"


def _parse(value: object, units: Mapping[str, float], allowed: str) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"allowed: {allowed} (units {', '.join(units)})")
    quantity = float(match[1]) * units[match[2]]
    if not math.isfinite(quantity):
        raise ValueError(f"allowed: {allowed}, finite")
    return quantity


def _format(value: float, units: Mapping[str, float]) -> str:
    unit = max(
        (u for u in units if units[u] <= value * (1 + 1e-9)),
        key=units.__getitem__,
        default=min(units, key=units.__getitem__),
    )
    return f"{value / units[unit]:.4g}{unit}"


def in_range(parse: Callable[[object], float], low: float, high: float, shown: str) -> BeforeValidator:
    """A validator of a quantity within [low, high]; `shown` is the range in the user's units."""

    def check(value: Any) -> float:
        quantity = parse(value)
        if not low <= quantity <= high:
            raise ValueError(f"allowed: {shown}")
        return quantity

    return BeforeValidator(check)
