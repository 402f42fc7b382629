"""The gate between the door and the tokenizer: lets a request in, or says why not.

Owns what is known of requests before they are tokenised: whose they are, how many tokens they seem to have,
how long they would wait, and how wrong that has been. Rules are `admission`'s and `quotas`'. Called by
`inference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from minwatt.v1.fleet_pb2 import REPLICA_STATE_STARTING
from service.access import Caller
from service.admission import (
    BATCH_PATIENCE,
    TARGET_FRACTION,
    AdmissionLimits,
    Forecast,
    Full,
    Load,
    Margin,
    Offered,
    Why,
    in_time,
    room_for,
)
from service.batcher import Batcher
from service.queue import BATCH_TURN
from service.replica import Replica
from service.statuses import deadline_exceeded, queue_full, quota_exceeded, shed, too_slow, unavailable
from service.telemetry import Telemetry
from service.token_guess import TokenGuess
from service.waiting import Share

RETRY_STARTING_S = 1.0
RETRY_SHED_S = 5.0  # the scaler looks again each few seconds


class Ask(NamedTuple):
    """What a request wants, as far as that is known before its texts are looked at."""

    texts: int
    size_bytes: int
    batch: bool  # of that priority class, else interactive
    arrived_s: float
    deadline_s: float


@dataclass(slots=True, eq=False)
class Pass:
    """A request that was let in. It must be given back with `Gate.leave`."""

    ask: Ask
    caller: Caller
    share: Share
    due_s: float
    guessed_tokens: float
    forecast: Forecast
    tokens: int = 0  # once it is tokenised


class Gate:
    """One per resident model; requests in flight are counted over all of them."""

    def __init__(
        self,
        batcher: Batcher,
        replica: Replica,
        telemetry: Telemetry,
        limits: AdmissionLimits,
        clock: Callable[[], float],
    ) -> None:
        self._batcher = batcher
        self._dispatcher = batcher.dispatcher
        self._replica = replica
        self._telemetry = telemetry
        self._limits = limits
        self._clock = clock
        self._margin = Margin()
        self._offered = Offered()
        self._guess = TokenGuess()
        self._arriving_texts = 0  # at the tokenizer
        self._arriving_tokens = 0.0  # of those, guessed

    def check_open(self) -> None:
        """Raises Refusal while the replica starts."""
        if self._replica.state == REPLICA_STATE_STARTING:
            raise unavailable("starting", "the model is being loaded", RETRY_STARTING_S)

    def enter(self, ask: Ask, caller: Caller) -> Pass:
        """Raises Refusal, having done nothing. From here to `tokenized` the texts count as waiting."""
        if ask.batch and self._replica.shed_low_priority:
            raise shed(
                "requests of the class batch are refused: the fleet is at its power budget", RETRY_SHED_S
            )
        now_s = self._clock()
        tokens = self._guess.tokens(ask.texts, ask.size_bytes)
        exceeded = caller.usage.exceeded(ask.texts, tokens, now_s)
        if exceeded is not None:
            name = caller.tenant.name
            raise quota_exceeded(name, exceeded.quota, exceeded.allowed, exceeded.retry_after_s)
        dispatcher = self._dispatcher
        service_time = dispatcher.service_time.current
        full_batches = ask.texts / dispatcher.limits.max_texts
        work_s = service_time.alpha_s * full_batches + service_time.beta_s_per_token * tokens
        self._offered.add(now_s, work_s)
        backlog_s = service_time.batch_s(dispatcher.waiting_tokens)
        waiting_texts = dispatcher.waiting_texts + self._arriving_texts
        load = Load(self._telemetry.counters.in_flight, waiting_texts, backlog_s)
        _raise(room_for(ask.texts, ask.batch, load, self._limits))
        due_s = self._due_s(ask, ask.batch)
        forecast = self._check_in_time(ask, caller, tokens, due_s, now_s)

        self._telemetry.entered()
        caller.usage.enter(ask.texts, tokens)
        self._arriving_texts += ask.texts
        self._arriving_tokens += tokens
        return Pass(ask, caller, caller.shares[ask.batch], due_s, tokens, forecast)

    def tokenized(self, one: Pass, tokens: int, texts: int) -> None:
        """So many of its texts are to be computed and have so many tokens; again, if more of them must be.

        Raises Refusal where its deadline can't be met then.
        """
        if not one.tokens:
            self._no_longer_arriving(one)
        one.tokens += tokens
        if texts == one.ask.texts:
            self._guess.learn(tokens, one.ask.size_bytes)
        now_s = self._clock()
        forecast = self._forecast(one.ask, one.share, tokens, one.due_s, now_s)
        self._check_deadline(one.ask, forecast, forecast.own_s, now_s)

    def answered(self, one: Pass) -> None:
        """How wrong was the prediction?"""
        if not one.share.batch:
            self._margin.learn(self._clock() - one.ask.arrived_s, one.forecast, self._dispatcher.slo_s)

    def leave(self, one: Pass) -> None:
        """It has ended, in whatever way."""
        if not one.tokens:
            self._no_longer_arriving(one)
        self._telemetry.left()
        one.caller.usage.leave(one.ask.texts, one.guessed_tokens, one.tokens)

    def _no_longer_arriving(self, one: Pass) -> None:
        self._arriving_texts -= one.ask.texts
        self._arriving_tokens -= one.guessed_tokens

    def _due_s(self, ask: Ask, batch: bool) -> float:
        slo_s = self._dispatcher.slo_s * (BATCH_PATIENCE if batch else 1.0)
        return ask.arrived_s + TARGET_FRACTION * min(ask.deadline_s - ask.arrived_s, slo_s)

    def _check_in_time(self, ask: Ask, caller: Caller, tokens: float, due_s: float, now_s: float) -> Forecast:
        """In its class. The class batch is asked to fit as an interactive request too."""
        dispatcher = self._dispatcher
        in_class = interactive = self._forecast(ask, caller.shares[ask.batch], tokens, due_s, now_s)
        as_batch = None
        if ask.batch:
            own_due_s = self._due_s(ask, batch=False)
            interactive = self._forecast(ask, caller.shares[False], tokens, own_due_s, now_s)
            turns = BATCH_TURN if dispatcher.raised else 1  # interactive texts may leave it no more
            as_batch = in_class._replace(wait_s=in_class.wait_s * turns)
        self._check_deadline(ask, in_class, 0.0, now_s)  # it may have fewer tokens than guessed
        margin_s = self._margin.margin_s
        if margin_s:
            margin_s *= self._offered.overload(now_s, dispatcher.workers)
        _raise(in_time(interactive, as_batch, margin_s, dispatcher.slo_s))
        return in_class

    def _forecast(self, ask: Ask, share: Share, tokens: float, due_s: float, now_s: float) -> Forecast:
        dispatcher = self._dispatcher
        return Forecast(
            self._batcher.busy_s(),
            dispatcher.wait_s(share, tokens, due_s, self._arriving_tokens),
            dispatcher.service_time.current.batch_s(tokens),
            now_s - ask.arrived_s,
        )

    def _check_deadline(self, ask: Ask, forecast: Forecast, own_s: float, now_s: float) -> None:
        """The least that is still to come: the batch in the engine, what goes first, and its own compute."""
        least_s = forecast.engine_left_s + forecast.wait_s + own_s
        left_s = ask.deadline_s - now_s
        if left_s < least_s:
            times = f"{max(0.0, left_s) * 1000:.1f} ms are left and {least_s * 1000:.1f} ms are needed"
            raise deadline_exceeded(f"{times}: nothing was computed")


def _raise(full: Full | None) -> None:
    if full is not None:
        _refuse(full)


def _refuse(full: Full) -> NoReturn:
    match full.why:
        case Why.FULL:
            raise queue_full(full.message, full.retry_after_s)
        case Why.SLO:
            raise too_slow(full.message, full.retry_after_s)
        case Why.SHED:
            raise shed(full.message, full.retry_after_s)
