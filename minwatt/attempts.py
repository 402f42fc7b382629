"""From a request's first attempt to its end: what both clients do, without the sending and the waiting.

Owns the order of things: a connection is chosen, an attempt gets what is left of the deadline, its failure
is judged and the next one timed. Leaves judgement to `retries`, choice to `balancing`, and the calls
themselves to `client` and `streaming`. A `Sender` may be shared by threads.
"""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from minwatt.balancing import Balancer
from minwatt.failures import DeadlineExceeded, RequestFailed
from minwatt.retries import GONE, RetryBudget, charged, wait_s


class Sender:
    """What the requests of one client share: connections, the retry budget, the jitter."""

    def __init__(self, connections: int, seed: int | None = None) -> None:
        self._balancer = Balancer(connections)
        self._budget = RetryBudget()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._retries: Counter[str] = Counter()

    @property
    def retries(self) -> dict[str, int]:
        """How many attempts followed a failed one so far, by the code of that failure."""
        with self._lock:
            return dict(self._retries)

    def request(self, timeout_s: float, now_s: float) -> Request:
        """A new request, to be answered within `timeout_s`."""
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s = {timeout_s!r}: allowed: a positive number of seconds")
        with self._lock:
            self._budget.request_sent()
        return Request(self, timeout_s, now_s)

    @contextmanager
    def connection(self, now_s: float) -> Iterator[int]:
        """The index of the connection for one attempt, or one stream; counted as in flight meanwhile."""
        with self._lock:
            connection = self._balancer.take(now_s)
        try:
            yield connection
        finally:
            with self._lock:
                self._balancer.give_back(connection)

    def worked(self, connection: int) -> None:
        with self._lock:
            self._balancer.worked(connection)

    def wait_s(
        self, failure: RequestFailed, connection: int, attempt: int, left_s: float, now_s: float
    ) -> float | None:
        """Until the next attempt; None: there is none."""
        # A deadline that passes in silence is held against the connection: its peer may be gone.
        silent = failure.code == "DEADLINE_EXCEEDED" and not failure.answered
        with self._lock:
            gone = failure.code in GONE
            elsewhere = (gone or silent) and self._balancer.failed(connection, now_s)
            jitter = self._random.random()
            wait = wait_s(failure, attempt, left_s, elsewhere=elsewhere, jitter=jitter)
            if wait is not None and charged(failure):
                turn_s = self._budget.take(now_s, left_s)
                wait = None if turn_s is None else max(wait, turn_s)
            if wait is not None:
                self._retries[failure.code] += 1
            return wait


class Request:
    """One request: its deadline and how often it was sent."""

    def __init__(self, sender: Sender, timeout_s: float, now_s: float) -> None:
        self._sender = sender
        self._timeout_s = timeout_s
        self._deadline_s = now_s + timeout_s
        self._attempts = 0
        self._before: RequestFailed | None = None

    def left_s(self, now_s: float) -> float:
        return self._deadline_s - now_s

    def failed(self, failure: RequestFailed, connection: int, now_s: float) -> float | None:
        """Counts an attempt that failed so; seconds until the next one, or None: `failure` is final."""
        self._account(failure)
        return self._sender.wait_s(failure, connection, self._attempts, self.left_s(now_s), now_s)

    def expired(self) -> RequestFailed:
        """What there is to say once the deadline has passed without an answer."""
        failure = DeadlineExceeded("DEADLINE_EXCEEDED", f"no answer within {self._timeout_s:g} s")
        self._account(failure)
        return failure

    def _account(self, failure: RequestFailed) -> None:
        self._attempts += 1
        failure.attempts = self._attempts
        if self._before is not None:
            failure.add_note(f"attempt {self._attempts}; the one before: {self._before}")
        self._before = failure
