"""What a tenant may use and what it has used: rates as token buckets, bounds on what it has in the server.

Pure: time is an argument. Held by `access`, asked by `inference` before a request takes any room.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

HELD_RETRY_S = 0.05  # until one of the tenant's own requests may have been answered


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds of one tenant on one replica; infinite where there is none."""

    requests_per_s: float = math.inf
    tokens_per_s: float = math.inf
    burst_s: float = 1.0  # of its rates that it may use at once
    max_in_flight: float = math.inf  # requests
    max_queue_texts: float = math.inf  # texts that wait for the tokenizer or the engine


UNLIMITED = Quota()


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Which quota is used up: its name, its value, and when there should be room."""

    quota: str
    allowed: float
    retry_after_s: float | None  # None: the request alone is over it, there will never be room


class Bucket:
    """Fills at a rate up to a burst. What is taken may be more than a full one holds: that is owed.

    In any span of T seconds at most burst + rate·T is let in, plus what the last one owed.
    """

    __slots__ = ("_at_s", "_burst", "_level", "_rate")

    def __init__(self, rate_per_s: float, burst_s: float, least: float) -> None:
        """`least`: one request must fit into a burst, however low the rate."""
        self._rate = rate_per_s
        self._burst = max(least, rate_per_s * burst_s)
        self._level = self._burst
        self._at_s = -math.inf

    def missing_s(self, amount: float, now_s: float) -> float:
        """Until so much may be taken; 0: now."""
        if self._rate == math.inf:
            return 0.0
        if self._at_s > -math.inf:
            self._level = min(self._burst, self._level + self._rate * max(0.0, now_s - self._at_s))
        self._at_s = max(self._at_s, now_s)
        return max(0.0, (min(amount, self._burst) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """After `missing_s` said 0. A negative amount gives back."""
        if self._rate < math.inf:
            self._level = min(self._burst, self._level - amount)

    def inherit(self, other: Bucket) -> None:
        """A new quota does not forgive what was just used."""
        if other._rate < math.inf and self._rate < math.inf:
            self._level = self._burst * min(1.0, other._level / other._burst)
            self._at_s = other._at_s


@dataclass(slots=True)
class Usage:
    """One tenant's on this replica; `outcomes` and totals are cumulative."""

    quota: Quota
    requests: Bucket = field(init=False)
    tokens: Bucket = field(init=False)
    in_flight: int = 0
    texts: int = 0  # of its requests in flight
    outcomes: Counter[str] = field(default_factory=Counter)  # ok, or a refusal's reason
    tokens_total: int = 0
    joules_total: float = 0.0  # as far as they are known
    _limited: bool = field(init=False)

    def __post_init__(self) -> None:
        self._limited = self.quota != UNLIMITED
        self.requests = Bucket(self.quota.requests_per_s, self.quota.burst_s, 1.0)
        self.tokens = Bucket(self.quota.tokens_per_s, self.quota.burst_s, 1.0)

    def exceeded(self, texts: int, tokens: float, now_s: float) -> Exceeded | None:
        """None: a request of so many texts and tokens is within the quota."""
        if not self._limited:
            return None
        quota = self.quota
        if self.in_flight + 1 > quota.max_in_flight:
            return Exceeded("maxInFlight", quota.max_in_flight, HELD_RETRY_S)
        if self.texts + texts > quota.max_queue_texts:
            retry_after_s = HELD_RETRY_S if texts <= quota.max_queue_texts else None
            return Exceeded("maxQueueTexts", quota.max_queue_texts, retry_after_s)
        if missing_s := self.requests.missing_s(1.0, now_s):
            return Exceeded("requestsPerSecond", quota.requests_per_s, missing_s)
        if missing_s := self.tokens.missing_s(tokens, now_s):
            return Exceeded("tokensPerSecond", quota.tokens_per_s, missing_s)
        return None

    def enter(self, texts: int, tokens: float) -> None:
        """Lets a request in; `tokens` is what it is thought to have."""
        if self._limited:
            self.requests.take(1.0)
            self.tokens.take(tokens)
        self.in_flight += 1
        self.texts += texts

    def leave(self, texts: int, guessed_tokens: float, tokens: int) -> None:
        """It has ended; it had `tokens`, 0 if it never came to the tokenizer."""
        if self._limited:
            self.tokens.take(tokens - guessed_tokens)
        self.in_flight -= 1
        self.texts -= texts

    def answered(self, tokens: int, energy_j: float | None) -> None:
        self.outcomes["ok"] += 1
        self.tokens_total += tokens
        self.joules_total += energy_j or 0.0

    def limit(self, quota: Quota) -> None:
        """Another quota is in force."""
        if quota == self.quota:
            return
        old_requests, old_tokens = self.requests, self.tokens
        self.quota = quota
        self.__post_init__()
        self.requests.inherit(old_requests)
        self.tokens.inherit(old_tokens)
