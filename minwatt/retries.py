"""Whether a failed request is sent again, and when.

Pure: time, attempt and jitter come in as arguments. All of minwatt's calls only read, so any of them may be
repeated; the question is whether that helps. gRPC's own retry policy can't ask it: it stops at five attempts,
sees no RetryInfo, and would repeat a RESOURCE_EXHAUSTED without knowing when there will be room. Called by
`attempts`.
"""

from __future__ import annotations

from dataclasses import dataclass

from minwatt.failures import RequestFailed

FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 0.5
# CANCELLED: what gRPC's server says of calls that arrive in the instant it shuts down. (A call that the
# application itself cancels never gets here.)
GONE = frozenset({"UNAVAILABLE", "CANCELLED"})


def wait_s(
    failure: RequestFailed, attempt: int, left_s: float, *, elsewhere: bool, jitter: float
) -> float | None:
    """Seconds from now to the next attempt; None: give up.

    `attempt` failed so, counted from 1; `left_s` is left of the deadline; `elsewhere`: another connection
    looks well; `jitter` is drawn from [0, 1). Never earlier than the server asked, never at or after the
    deadline.
    """
    room = failure.code == "RESOURCE_EXHAUSTED" and failure.retry_after_s is not None
    if not (room or failure.code in GONE) or failure.violations:
        return None
    asked_s = failure.retry_after_s or 0.0
    if asked_s >= left_s:
        return None
    if elsewhere and failure.retry_after_s is None:
        return 0.0
    # Full jitter on top of what was asked: callers refused together don't come back together.
    backoff_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt - 1, 16))
    return asked_s + jitter * min(backoff_s, (left_s - asked_s) / 2)


def charged(failure: RequestFailed) -> bool:
    """Whether a retry after it draws on the budget.

    Only where there was no room: replicas that leave refuse as many requests as they would have answered, and
    those are to be answered by others, at once.
    """
    return failure.code == "RESOURCE_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """At most `burst` + `per_s`·t + `share`·requests retries for want of room in any t seconds."""

    share: float = 0.2  # as Finagle's RetryBudget, whose floor is 10 a second too
    per_s: float = 10.0
    burst: float = 100.0


class RetryBudget:
    """A token bucket that keeps retries from multiplying an overload.

    With the bucket empty a retry waits its turn, and is given up where that is too late for its deadline.
    """

    def __init__(self, rules: BudgetRules = BudgetRules()) -> None:
        self._rules = rules
        self._tokens = rules.burst  # below zero: taken ahead of time, by retries that wait
        self._at_s: float | None = None

    def request_sent(self) -> None:
        """A first attempt earns a share of a retry."""
        self._tokens = min(self._rules.burst, self._tokens + self._rules.share)

    def take(self, now_s: float, at_most_s: float) -> float | None:
        """Seconds until one more retry may be sent; if `at_most_s` or more: None, and nothing is taken."""
        self._refill(now_s)
        turn_s = max(0.0, (1 - self._tokens) / self._rules.per_s)
        if turn_s and turn_s >= at_most_s:
            return None
        self._tokens -= 1
        return turn_s

    def _refill(self, now_s: float) -> None:
        if self._at_s is not None:
            earned = max(0.0, now_s - self._at_s) * self._rules.per_s
            self._tokens = min(self._rules.burst, self._tokens + earned)
        self._at_s = now_s if self._at_s is None else max(self._at_s, now_s)
