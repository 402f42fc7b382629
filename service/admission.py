"""Who may come in: bounds on what is in the server, and whether the answer would come within the SLO.

Pure. Asked by `inference` before a request is tokenised; a request that was let in is `dispatch`'s.

The second rule is feed-forward with feedback. What waits before a request in its class and share is known, so
its wait is predicted, and it is refused now if that breaks the SLO: it costs nothing, and its client may go
elsewhere. CoDel (Nichols, Jacobson, 2012) drops who has waited too long; here the wait is known before it
begins. What the prediction misses (padding, the tokenizer, a busy machine) is learned: `Margin` follows the
99th percentile of what answers take beyond the predicted wait (stochastic approximation: Robbins, Monro,
1951), so the p99 of those let in stays at the target whatever the prediction's error is. A margin refuses
some who would have been in time: in an overload others take their places, in a passing burst they are lost
for nothing. So it counts only as far as more is asked for than can be done (`Offered`). Somebody who would
wait behind nobody is never refused: refusing it would idle the engine.

`batch` may wait longer, but is refused as soon as an interactive request of the same size would be, and has
no claim on the second half of the room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

MIN_RETRY_S = 0.01
TARGET_FRACTION = 0.8  # of the SLO; the rest is for waking up, the reply and its way to the client
BATCH_PATIENCE = 20.0  # of the SLO: so long a text of the class `batch` may take
LATE_FRACTION = 0.01  # of the answers may be later than predicted plus margin
MARGIN_STEP = 0.05  # of the target, by which one late answer moves the margin
OWN_SHARE = 0.25  # of the target, that a request's own compute may be before it is for itself to bear
OFFERED_OVER_S = 2.0  # memory of what was asked for: longer than a burst, shorter than a scaler's tick
SPARE_LOAD, FULL_LOAD = 0.8, 1.0  # of what can be done: the margin counts not at all, and in full
MOST_MARGIN = 0.75  # of the target: a quarter is always there for a queue, which fills batches


class Why(Enum):
    """What stands against a request."""

    FULL = "full"
    SLO = "slo"
    SHED = "shed"


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    max_in_flight: int  # requests accepted and not yet answered
    max_queue_texts: int  # texts waiting for compute


class Load(NamedTuple):
    """The replica now."""

    in_flight: int
    waiting_texts: int
    backlog_s: float  # what all that waits will compute


class Forecast(NamedTuple):
    """Of one request, were it let in."""

    engine_left_s: float  # of the batch in the engine
    wait_s: float  # for what goes before it
    own_s: float  # its own compute
    spent_s: float = 0.0  # since it came


@dataclass(frozen=True, slots=True)
class Full:
    """Not now: what is full, and when there should be room."""

    why: Why
    message: str
    retry_after_s: float


class Margin:
    """What all but `LATE_FRACTION` of the answers take beyond the wait that was predicted, at most."""

    def __init__(self) -> None:
        self.margin_s = 0.0

    def learn(self, took_s: float, forecast: Forecast, slo_s: float) -> None:
        """From one answer: what it took and what was predicted when it was let in."""
        target_s = TARGET_FRACTION * slo_s
        own_s = max(0.0, forecast.own_s - OWN_SHARE * target_s)
        late = took_s - forecast.spent_s - forecast.engine_left_s - forecast.wait_s - own_s > self.margin_s
        moved_s = self.margin_s + MARGIN_STEP * target_s * (late - LATE_FRACTION)
        self.margin_s = min(max(0.0, moved_s), MOST_MARGIN * target_s)


class Offered:
    """The work that is asked for, refused requests too, over what can be done: a mean that fades."""

    def __init__(self) -> None:
        self._work_s = 0.0
        self._at_s = 0.0

    def add(self, now_s: float, work_s: float) -> None:
        """A request came that takes an engine so long. `now_s` never goes back."""
        self._work_s = self._left_s(now_s) + work_s
        self._at_s = now_s

    def overload(self, now_s: float, workers: float) -> float:
        """How much of the margin counts, 0 to 1."""
        load = self._left_s(now_s) / OFFERED_OVER_S / workers
        return min(1.0, max(0.0, (load - SPARE_LOAD) / (FULL_LOAD - SPARE_LOAD)))

    def _left_s(self, now_s: float) -> float:
        return self._work_s * math.exp((self._at_s - now_s) / OFFERED_OVER_S)


def room_for(texts: int, batch: bool, load: Load, limits: AdmissionLimits) -> Full | None:
    """None: there is room for a request of `texts` texts."""
    retry_s = max(MIN_RETRY_S, load.backlog_s)
    if load.in_flight >= limits.max_in_flight:
        message = f"{load.in_flight} requests are in flight, the limit is {limits.max_in_flight}"
        return Full(Why.SHED if batch else Why.FULL, message, retry_s)
    if load.waiting_texts + texts > limits.max_queue_texts:
        message = (
            f"{load.waiting_texts} texts wait and {texts} more exceed the limit of {limits.max_queue_texts}"
        )
        return Full(Why.SHED if batch else Why.FULL, message, retry_s)
    if batch and 2 * (load.in_flight + 1) > limits.max_in_flight:
        message = f"{load.in_flight} requests are in flight, half the limit: the class batch is refused first"
        return Full(Why.SHED, message, retry_s)
    if batch and 2 * load.waiting_texts > limits.max_queue_texts:
        message = f"{load.waiting_texts} texts wait, half the limit: the class batch is refused first"
        return Full(Why.SHED, message, retry_s)
    return None


def in_time(interactive: Forecast, as_batch: Forecast | None, margin_s: float, slo_s: float) -> Full | None:
    """None: the answer is expected in time. `as_batch`: the same request in its class, if that is batch."""
    over_s = _over_s(interactive, margin_s, TARGET_FRACTION * slo_s)
    if as_batch is None:
        if over_s <= 0:
            return None
        wait_s = interactive.engine_left_s + interactive.wait_s
        message = (
            f"it would wait about {wait_s * 1e3:.0f} ms, answers take up to {margin_s * 1e3:.0f} ms more: "
            f"too long for the SLO of {slo_s * 1e3:.0f} ms"
        )
        return Full(Why.SLO, message, max(MIN_RETRY_S, wait_s))  # by then what waits now has been served
    over_s = max(over_s, _over_s(as_batch, margin_s, BATCH_PATIENCE * TARGET_FRACTION * slo_s))
    if over_s <= 0:
        return None
    message = "too much waits already: the class batch is refused first"
    return Full(Why.SHED, message, max(MIN_RETRY_S, over_s))


def _over_s(forecast: Forecast, margin_s: float, target_s: float) -> float:
    """By how much the target is missed. Its own compute is not held against a request: small ones would crowd
    out the others, and one that is larger than the target is late by itself."""
    if forecast.wait_s == 0.0:
        return 0.0
    return forecast.spent_s + forecast.engine_left_s + forecast.wait_s + margin_s - target_s
