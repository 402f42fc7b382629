"""One request from door to reply: who calls, admission, validation, tokens, the batcher, and the books.

Raises Refusal for every way a request can end without an answer. Called by `rpc` for unary calls and for
each item of a stream; batching is `batcher`'s.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NoReturn, cast

from minwatt.v1.decode import EncodedText
from minwatt.v1.fleet_pb2 import REPLICA_STATE_STARTING
from minwatt.v1.inference_pb2 import (
    PRIORITY_BATCH,
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    EntityList,
    ExtractEntitiesRequest,
    ExtractEntitiesResponse,
    ModelIdentity,
    Usage,
)
from minwatt.v1.model_dir import ModelSpec
from service.access import Access, Caller
from service.admission import (
    BATCH_PATIENCE,
    TARGET_FRACTION,
    AdmissionLimits,
    Forecast,
    Full,
    Load,
    Margin,
    Why,
    in_time,
    room_for,
)
from service.answers import text_job
from service.batcher import Batcher
from service.calls import Call
from service.queue import BATCH_TURN
from service.replica import Replica
from service.request import Request, TextJob
from service.statuses import (
    Refusal,
    Violation,
    deadline_exceeded,
    internal,
    invalid,
    queue_full,
    quota_exceeded,
    shed,
    too_slow,
    unavailable,
)
from service.telemetry import Telemetry
from service.token_guess import TokenGuess
from service.tokenize import TextTokenizer, TooLong
from service.validation import check
from service.waiting import Share
from service.wire import Unreadable

RETRY_STARTING_S = 1.0
RETRY_ELSEWHERE_S = 0.03  # by then the draining replica has closed its connections
RETRY_SHED_S = 5.0  # the scaler looks again each few seconds
TOKENIZED_AT_ONCE = 8  # texts
CLOCK_SKEW_S = 0.002  # gRPC's timer and ours do not fire in the same instant
log = logging.getLogger(__name__)

AnyRequest = ClassifyRequest | ExtractEntitiesRequest
AnyResponse = ClassifyResponse | ExtractEntitiesResponse


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on one request and on all of them."""

    max_texts: int
    default_deadline_s: float
    admission: AdmissionLimits


@dataclass(slots=True)
class Arrival:
    """A request at the door: its method, when it came, and when its answer is worth nothing any more."""

    method: str
    arrived_s: float
    deadline_s: float
    call: Call | None  # None shows no key
    caller: Caller | None = None  # once that is known


class Inference:
    """The model's answers to requests; one per replica."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: TextTokenizer,
        batcher: Batcher,
        replica: Replica,
        telemetry: Telemetry,
        limits: RequestLimits,
        access: Access,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._replica = replica
        self._telemetry = telemetry
        self._limits = limits
        self._access = access
        self._margin = Margin()
        self._guess = TokenGuess()
        self._clock = clock
        self._arriving_texts = 0  # at the tokenizer
        self._arriving_tokens = 0.0  # of those, guessed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
        identity = replica.identity
        self._identity = ModelIdentity(
            name=identity.model, version=identity.model_version, variant=identity.variant
        )

    def arrival(self, method: str, call: Call | None, timeout_s: float | None = None) -> Arrival:
        """Counts a request at the door. `timeout_s`: its own beside the call's; neither: the default."""
        self._telemetry.arrived()
        now_s = self._clock()
        calls_s = None if call is None else call.timeout_s
        limits_s = [limit_s for limit_s in (timeout_s, calls_s) if limit_s is not None]
        return Arrival(method, now_s, now_s + min(limits_s, default=self._limits.default_deadline_s), call)

    async def answer(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        """The reply. Raises Refusal; cancelling it withdraws the request. Each way out is counted once."""
        try:
            request = await self._computed(message, arrival)
        except asyncio.CancelledError:
            self._left_by_client(arrival)
            raise
        except TimeoutError:
            raise self._counted(arrival, _late()) from None
        except Refusal as refusal:
            raise self._counted(arrival, refusal) from None
        except Exception as error:
            log.exception("%s failed", arrival.method)
            raise self._counted(arrival, internal(f"unexpected {type(error).__name__}")) from error
        reply = self._reply(cast(AnyRequest, message), request)
        self._telemetry.answered(
            arrival.method, self._clock() - arrival.arrived_s, request.cost, len(request.jobs)
        )
        if arrival.caller is not None:
            arrival.caller.usage.answered(request.cost.tokens, request.cost.energy_j)
        return reply

    def _counted(self, arrival: Arrival, refusal: Refusal) -> Refusal:
        self._telemetry.refused(arrival.method, self._clock() - arrival.arrived_s, refusal)
        if arrival.caller is not None:
            arrival.caller.usage.outcomes[refusal.reason] += 1
        return refusal

    def _left_by_client(self, arrival: Arrival) -> None:
        """gRPC cancels a call also when its deadline passes: that is told apart by the time."""
        if self._clock() >= arrival.deadline_s - CLOCK_SKEW_S:
            self._counted(arrival, _late())
        else:
            self._telemetry.cancelled(arrival.method, self._clock() - arrival.arrived_s)
            if arrival.caller is not None:
                arrival.caller.usage.outcomes["cancelled"] += 1

    async def _computed(self, message: AnyRequest | Unreadable, arrival: Arrival) -> Request:
        """Cheap refusals first: who calls, whether there is room, and only then what the texts are."""
        caller = arrival.caller = self._access.caller(arrival.call, "infer")
        self._check_open()
        if isinstance(message, Unreadable):
            raise message.refusal
        texts = len(message.texts)
        if not 0 < texts <= self._limits.max_texts:
            check(message, self._spec, self._limits.max_texts)  # raises: no retry would help
        share = Share(caller.tenant.name, caller.tenant.weight, message.options.priority == PRIORITY_BATCH)
        size_bytes = message.ByteSize()
        tokens = self._guess.tokens(texts, size_bytes)
        predicted_s = self._admit(arrival, caller, share, texts, tokens)
        self._telemetry.entered()
        caller.usage.enter(texts, tokens)
        encoded: list[EncodedText] = []
        try:
            task, options = check(message, self._spec, self._limits.max_texts)
            async with asyncio.timeout(
                arrival.deadline_s - self._clock() if arrival.deadline_s < math.inf else None
            ):
                strings = list(message.texts)
                encoded = await self._tokenize(strings, options.truncate, tokens)
                self._guess.learn(sum(map(len, encoded)), size_bytes)
                jobs = [
                    text_job(task, options, text, one) for text, one in zip(strings, encoded, strict=True)
                ]
                return await self._batched(jobs, arrival, share, predicted_s)
        finally:
            self._telemetry.left()
            caller.usage.leave(texts, tokens, sum(map(len, encoded)))

    async def _tokenize(self, texts: list[str], truncate: bool, guessed_tokens: float) -> list[EncodedText]:
        """In slices, so that a request of many texts does not hold up all others."""
        self._arriving_texts += len(texts)
        self._arriving_tokens += guessed_tokens
        loop = asyncio.get_running_loop()
        encoded: list[EncodedText] = []
        try:
            for first in range(0, len(texts), TOKENIZED_AT_ONCE):
                some = texts[first : first + TOKENIZED_AT_ONCE]
                tokens = await loop.run_in_executor(self._thread, self._tokenizer.encode, some, truncate)
                if isinstance(tokens, TooLong):
                    hint = "LONG_TEXT_TRUNCATE reads its beginning"
                    raise invalid([Violation(f"texts[{first + tokens.index}]", f"{tokens.length} ({hint})")])
                encoded += tokens
        finally:
            self._arriving_texts -= len(texts)
            self._arriving_tokens -= guessed_tokens
        return encoded

    async def _batched(
        self, jobs: list[TextJob], arrival: Arrival, share: Share, predicted_s: float
    ) -> Request:
        due_s = self._due_s(arrival, share)
        tokens = sum(len(job.encoded) for job in jobs)
        self._check_deadline(arrival, self._forecast(arrival, share, tokens, tokens, due_s))
        request = Request(jobs, arrival.arrived_s, due_s, arrival.deadline_s, share)
        try:
            await self._batcher.answer(request)
        finally:
            slo_s = self._replica.dispatcher.slo_s
            took_s = self._clock() - arrival.arrived_s
            answered = request.unanswered == 0
            if not share.batch and (answered or took_s > slo_s):  # else it ended for reasons of its own
                self._margin.learn(took_s - predicted_s, slo_s)
        return request

    def _due_s(self, arrival: Arrival, share: Share) -> float:
        slo_s = self._replica.dispatcher.slo_s * (BATCH_PATIENCE if share.batch else 1.0)
        return arrival.arrived_s + TARGET_FRACTION * min(arrival.deadline_s - arrival.arrived_s, slo_s)

    def _check_open(self) -> None:
        if self._replica.closing:
            raise unavailable("draining", "this replica is draining", RETRY_ELSEWHERE_S)
        if self._replica.state == REPLICA_STATE_STARTING:
            raise unavailable("starting", "the model is being loaded", RETRY_STARTING_S)

    def _admit(self, arrival: Arrival, caller: Caller, share: Share, texts: int, tokens: float) -> float:
        """The latency that is predicted. Raises Refusal."""
        if share.batch and self._replica.shed_low_priority:
            message = "requests of the class batch are refused: the fleet is at its power budget"
            raise shed(message, RETRY_SHED_S)
        exceeded = caller.usage.exceeded(texts, tokens, self._clock())
        if exceeded is not None:
            raise quota_exceeded(caller.tenant.name, exceeded.quota, exceeded.allowed, exceeded.retry_after_s)
        dispatcher = self._batcher.dispatcher
        load = Load(
            self._telemetry.counters.in_flight,
            dispatcher.waiting_texts + self._arriving_texts,
            dispatcher.service_time.current.batch_s(dispatcher.waiting_tokens),
        )
        full = room_for(texts, share.batch, load, self._limits.admission)
        if full is not None:
            _refuse(full)
        due_s = self._due_s(arrival, share)
        forecast = self._forecast(arrival, share, tokens, 0, due_s)
        self._check_deadline(arrival, forecast)
        interactive, as_batch = forecast, None
        if share.batch:
            as_batch = replace(forecast, wait_s=forecast.wait_s * (BATCH_TURN if dispatcher.raised else 1))
            alike = replace(share, batch=False)
            interactive = self._forecast(arrival, alike, tokens, 0, self._due_s(arrival, alike))
        full = in_time(interactive, as_batch, self._margin.margin_s, dispatcher.slo_s)
        if full is not None:
            _refuse(full)
        return forecast.latency_s

    def _forecast(
        self, arrival: Arrival, share: Share, tokens: float, own_tokens: float, due_s: float
    ) -> Forecast:
        """`own_tokens`: those of `tokens` that are sure; as an unpadded batch they take least."""
        dispatcher = self._batcher.dispatcher
        return Forecast(
            self._batcher.busy_s(),
            dispatcher.wait_s(share, tokens, due_s, self._arriving_tokens),
            dispatcher.service_time.current.batch_s(own_tokens),
            self._clock() - arrival.arrived_s,
        )

    def _check_deadline(self, arrival: Arrival, forecast: Forecast) -> None:
        """The least that is still to come: the batch in the engine, what goes first, and its own compute."""
        least_s = forecast.latency_s - forecast.spent_s
        left_s = arrival.deadline_s - self._clock()
        if left_s < least_s:
            times = f"{max(0.0, left_s) * 1000:.1f} ms are left and {least_s * 1000:.1f} ms are needed"
            raise deadline_exceeded(f"{times}: nothing was computed")

    def _reply(self, message: AnyRequest, request: Request) -> AnyResponse:
        cost = request.cost
        usage = Usage(
            tokens=cost.tokens,
            queue_seconds=cost.queue_s,
            compute_seconds=cost.compute_s,
            batch_size=cost.batch_texts,
            energy_joules=cost.energy_j,
            energy_source="unknown" if cost.energy_j is None else self._telemetry.energy_source,
        )
        if isinstance(message, ClassifyRequest):
            labels = cast(list[Classification], request.results)
            return ClassifyResponse(results=labels, usage=usage, model=self._identity)
        entities = cast(list[EntityList], request.results)
        return ExtractEntitiesResponse(results=entities, usage=usage, model=self._identity)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _refuse(full: Full) -> NoReturn:
    match full.why:
        case Why.FULL:
            raise queue_full(full.message, full.retry_after_s)
        case Why.SLO:
            raise too_slow(full.message, full.retry_after_s)
        case Why.SHED:
            raise shed(full.message, full.retry_after_s)


def _late() -> Refusal:
    return deadline_exceeded("the deadline passed before the answer was there")
