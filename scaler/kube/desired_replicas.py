"""The desired replicas of policies that are scaled from outside, for whoever asks.

Owns what is known of each policy, and for how long it may be believed. The controller says it on each beat;
`external_scaler` hands it to KEDA. Lives on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

# A number that its loop has not repeated for so long (it does each second) is not known any more: who scales
# by it then holds or falls back, as the policy does that is blind.
BELIEVED_S = 60.0


@dataclass(frozen=True, slots=True)
class Undecided:
    """The policy is there, and no number of it is known."""

    why: str


class NoSuchPolicyError(LookupError):
    """None of that name is scaled from outside. `others`: names in the same namespace that are."""

    def __init__(self, others: tuple[str, ...]) -> None:
        super().__init__(others)
        self.others = others


@dataclass(slots=True)
class _Said:
    desired: int | None
    at_s: float


class DesiredReplicas:
    """Empty on a copy of the controller that does not lead: it publishes nothing and forgets what it did."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}
        self._changed = asyncio.Event()

    def publish(self, namespace: str, policy: str, desired: int | None) -> None:
        """On each beat of the policy's loop; None before its first decision."""
        before = self._said.get((namespace, policy))
        self._said[namespace, policy] = _Said(desired, self._clock())
        if before is None or before.desired != desired:
            self._tell()

    def forget(self, namespace: str, policy: str) -> None:
        """It is gone, is scaled by minwatt itself from now on, or is another leader's."""
        if self._said.pop((namespace, policy), None) is not None:
            self._tell()

    def of(self, namespace: str, policy: str) -> int | Undecided:
        """Raises NoSuchPolicyError."""
        if not self._said:
            return Undecided("this copy of the controller acts on no policy that is scaled from outside")
        said = self._said.get((namespace, policy))
        if said is None:
            raise NoSuchPolicyError(tuple(sorted(name for where, name in self._said if where == namespace)))
        if said.desired is None:
            return Undecided("nothing is decided yet")
        age_s = self._clock() - said.at_s
        if age_s > BELIEVED_S:
            return Undecided(f"the last decision was repeated {age_s:.0f} s ago")
        return said.desired

    @property
    def next_change(self) -> asyncio.Event:
        """Set by the next change of any policy's number: taken before a look, it misses none after it."""
        return self._changed

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
