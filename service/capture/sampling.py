"""Which requests are captured, and those that wait to be written: a bounded queue that drops and counts.

Asked on the event loop for each request, emptied by the writer's thread; neither waits for the other. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Literal, NamedTuple

MOST_WAITING = 8192  # requests; the writer empties the queue several times a second
MOST_WAITING_BYTES = 32 * 1024 * 1024  # of their texts, where they are kept


class Seen(NamedTuple):
    """A request that has ended. Times are of the server's monotonic clock."""

    arrived_s: float
    task: Literal["classify", "extract"]
    tenant: str
    texts: int
    tokens: int | None  # None: nothing of it was computed
    size_bytes: int
    deadline_s: float  # a duration, from its arrival
    batch: bool
    outcome: str  # gRPC status by name
    latency_s: float
    model: str = ""  # as `minwatt.v1.capture_file` has it
    no_cache: bool = False
    truncate: bool = False
    words: tuple[str, ...] | None = None  # its texts; they are masked before they are written


class Sampling:
    """One per process."""

    def __init__(
        self,
        share: float,
        keeps_texts: bool = False,
        most: int = MOST_WAITING,
        most_bytes: int = MOST_WAITING_BYTES,
        draw: Callable[[], float] | None = None,
    ) -> None:
        """`draw`: uniform in [0, 1)."""
        self.share = share
        self.keeps_texts = keeps_texts
        self.dropped = 0  # sampled, and lost as the queue was full
        self.taken = 0
        self._most, self._most_bytes = most, most_bytes
        self._draw = Random().random if draw is None else draw
        self._waiting: deque[Seen] = deque()
        self._added_bytes = self._taken_bytes = 0  # each has one writer: no lock is needed

    def wanted(self) -> bool:
        """Whether the request that has just come is sampled: each by itself, whatever it is."""
        return self.share >= 1.0 or self._draw() < self.share

    def add(self, seen: Seen) -> None:
        """Never waits."""
        size_bytes = seen.size_bytes if seen.words is not None else 0
        waiting_bytes = self._added_bytes - self._taken_bytes
        if len(self._waiting) >= self._most or (size_bytes and waiting_bytes + size_bytes > self._most_bytes):
            self.dropped += 1
            return
        self._added_bytes += size_bytes
        self._waiting.append(seen)

    def take(self, most: int) -> list[Seen]:
        """The oldest that wait; what is taken waits no more."""
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._taken_bytes += sum(one.size_bytes for one in taken if one.words is not None)
        self.taken += len(taken)
        return taken
