"""How a status spells what it tells: rounded, so that noise is no change, and in the units of a policy.

Pure. Called by `conditions`, `status` and `decision_events`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from minwatt.v1.quantities import format_duration, format_power
from scaler.kube.status_fields import MESSAGE_CHARS


def duration(duration_s: float) -> str:
    """Two figures: `31ms`."""
    return format_duration(_figures(duration_s, 2))


def watts(power_w: float) -> str:
    """Three figures: `1.23kW`."""
    return format_power(_figures(power_w, 3))


def rate(rate_rps: float) -> str:
    """Three figures: `103rps`."""
    return f"{_figures(rate_rps, 3):g}rps"


def plain(value: float | int | str) -> str:
    """A reason's value, in SI: four figures of a fraction."""
    return f"{_figures(value, 4):g}" if isinstance(value, float) else str(value)


def shortened(text: str, most: int = MESSAGE_CHARS) -> str:
    """To so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def rfc3339(at_s: float) -> str:
    """Of unix time, to the second, as all times of the API are."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_s(time: str) -> float | None:
    """None: not a time."""
    try:
        read = datetime.fromisoformat(time)
    except ValueError:
        return None
    return read.timestamp() if read.tzinfo else None


def _figures(value: float, figures: int) -> float:
    return float(f"{value:.{figures}g}")
