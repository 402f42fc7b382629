"""Times as Kubernetes spells them. Pure; unix seconds on this side."""

from __future__ import annotations

from datetime import UTC, datetime


def micro_time(unix_s: float) -> str:
    """MicroTime: always six digits; the server refuses fewer."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix_time_s(text: str | None) -> float | None:
    """Of a Time or a MicroTime; None for what is neither."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
