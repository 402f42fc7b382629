"""A fleet that others start: replicas join by themselves, and their number is only wished for.

Used by `minwatt scale`. Whoever runs the replicas reads the desired number in the log, the record or the
metrics.
"""

from __future__ import annotations

from scaler.signals import Missing, Signals


class JoinedFleet:
    def running(self, seen: Signals | Missing) -> int:
        return seen.ready + seen.starting

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        """Starts and stops nothing: the decision itself is the wish."""
