"""A fleet that others start: replicas join by themselves, and their number is only wished for.

Used by `minwatt scale`. Whoever runs the replicas reads the desired number in the log, the record or the
metrics.
"""

from __future__ import annotations

from scaler.signals import Missing, Signals


class JoinedFleet:
    def __init__(self) -> None:
        self._last_seen = 0

    def running(self, seen: Signals | Missing) -> int:
        """While too little is heard, no fewer than were heard last: silence is no wish for fewer."""
        running = seen.ready + seen.starting
        if isinstance(seen, Missing):
            return max(running, self._last_seen)
        self._last_seen = running
        return running

    def awaited(self, seen: Signals | Missing) -> bool:  # noqa: ARG002 - nobody knows but they
        """Of replicas that only reports tell of, each silence may be a fault."""
        return True

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        """Starts and stops nothing: the decision itself is the wish."""
