"""A text that waits for the engine, whose it is, and which of many is first by one of its times.

Owns the values that `flows` and `queue` order. Made by `dispatch`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")

ANONYMOUS = "anonymous"  # the tenant of all who show no key and no listed certificate
SLACK = 64  # entries that a heap may hold beyond twice those that wait


@dataclass(frozen=True, slots=True)
class Share:
    """Whose a text is, and of which priority class."""

    tenant: str = ANONYMOUS
    weight: float = 1.0  # of two tenants that both wait, one of twice the weight gets twice the tokens
    batch: bool = False  # else interactive


NOBODYS = Share()


@dataclass(slots=True, eq=False)
class WaitingText(Generic[P]):
    """One text in the queue. Times are of the caller's monotonic clock."""

    payload: P
    tokens: int  # special tokens included, without padding
    arrived_s: float
    due_s: float  # when its compute should have ended: a little before its deadline or its SLO
    deadline_s: float  # after it the answer is worth nothing; infinity without a deadline
    share: Share = NOBODYS
    order: int = field(default=0, init=False)  # in which it was added
    waits: bool = field(default=False, init=False)


class Earliest(Generic[P]):
    """Waiting texts by one of their times. Who has left is dropped on coming up, and before they are many."""

    __slots__ = ("_heap", "_most")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WaitingText[P]]] = []
        self._most = SLACK

    def push(self, at_s: float, text: WaitingText[P]) -> None:
        heapq.heappush(self._heap, (at_s, text.order, text))
        if len(self._heap) > self._most:
            self._heap = [entry for entry in self._heap if entry[2].waits]
            heapq.heapify(self._heap)
            self._most = 2 * len(self._heap) + SLACK

    def first(self) -> WaitingText[P] | None:
        """None: nobody waits."""
        heap = self._heap
        while heap and not heap[0][2].waits:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def pop(self) -> WaitingText[P]:
        """Takes `first` out of here; it waits on. There must be one."""
        return heapq.heappop(self._heap)[2]
