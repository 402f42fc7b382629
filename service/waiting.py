"""A text that waits for the engine, and whose it is: the values that `flows` and `queue` order.

Made by `dispatch`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")

ANONYMOUS = "anonymous"  # the tenant of all who show no key and no listed certificate


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
