"""One request from door to reply: validation, admission, tokens, the batcher, and the books.

Raises Refusal for every way a request can end without an answer. Called by `rpc` for unary calls and for
each item of a stream; batching is `batcher`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from minwatt.v1.decode import EncodedText
from minwatt.v1.fleet_pb2 import REPLICA_STATE_STARTING
from minwatt.v1.inference_pb2 import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    EntityList,
    ExtractEntitiesRequest,
    ExtractEntitiesResponse,
    ModelIdentity,
    Usage,
)
from service.admission import AdmissionLimits, Load, admit
from service.answers import text_job
from service.batcher import Batcher, late
from service.dispatch import Dispatcher
from service.lifecycle.models import Models
from service.lifecycle.resident import ResidentModel
from service.replica import Replica
from service.request import Request, TextJob
from service.statuses import (
    Refusal,
    Violation,
    deadline_exceeded,
    internal,
    invalid,
    queue_full,
    shed,
    unavailable,
)
from service.telemetry import Telemetry
from service.tokenize import TextTokenizer, TooLong
from service.validation import check
from service.wire import Unreadable

RETRY_STARTING_S = 1.0
RETRY_ELSEWHERE_S = 0.03  # by then the draining replica has closed its connections
RETRY_SHED_S = 5.0  # the scaler looks again each few seconds
TOKENIZED_HERE_CHARACTERS = 1000  # about 0.6 ms; a thread there and back is 0.1 ms, and waits for the GIL
TOKENIZED_AT_ONCE = 16  # texts, on the thread
DUE_FRACTION = 0.8  # of SLO or deadline; the rest is for waking up, the reply and its way to the client
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at the door: its method, when it came, and when its answer is worth nothing any more."""

    method: str
    arrived_s: float
    deadline_s: float


class Inference:
    """The models' answers to requests; one per replica."""

    def __init__(
        self,
        models: Models[ResidentModel],
        replica: Replica,
        telemetry: Telemetry,
        limits: RequestLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._replica = replica
        self._telemetry = telemetry
        self._limits = limits
        self._clock = clock
        self._tokenizing_texts = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def arrival(self, method: str, timeout_s: float | None) -> Arrival:
        """Counts a request at the door. `timeout_s` None: the server's default deadline."""
        self._telemetry.arrived()
        now_s = self._clock()
        return Arrival(
            method, now_s, now_s + (self._limits.default_deadline_s if timeout_s is None else timeout_s)
        )

    async def answer(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        """The reply. Raises Refusal; cancelling it withdraws the request. Each way out is counted once."""
        try:
            request, identity = await self._computed(message, arrival)
        except asyncio.CancelledError:
            self._left_by_client(arrival)
            raise
        except Refusal as refusal:
            raise self._counted(arrival, refusal) from None
        except Exception as error:
            log.exception("%s failed", arrival.method)
            raise self._counted(arrival, internal(f"unexpected {type(error).__name__}")) from error
        reply = self._reply(cast(AnyRequest, message), request, identity)
        self._telemetry.answered(
            arrival.method, self._clock() - arrival.arrived_s, request.cost, len(request.jobs)
        )
        return reply

    def _counted(self, arrival: Arrival, refusal: Refusal) -> Refusal:
        self._telemetry.refused(arrival.method, self._clock() - arrival.arrived_s, refusal)
        return refusal

    def _left_by_client(self, arrival: Arrival) -> None:
        """gRPC cancels a call also when its deadline passes: that is told apart by the time."""
        if self._clock() >= arrival.deadline_s - CLOCK_SKEW_S:
            self._counted(arrival, late())
        else:
            self._telemetry.cancelled(arrival.method, self._clock() - arrival.arrived_s)

    async def _computed(
        self, message: AnyRequest | Unreadable, arrival: Arrival
    ) -> tuple[Request, ModelIdentity]:
        """With the model that is there now, to the end, whichever takes its place meanwhile."""
        if isinstance(message, Unreadable):
            raise message.refusal
        self._check_open()
        with self._models.using(message.model) as model:
            return await self._computed_with(model, message, arrival), model.identity

    async def _computed_with(self, model: ResidentModel, message: AnyRequest, arrival: Arrival) -> Request:
        task, options = check(message, model.spec, self._limits.max_texts)
        if options.low_priority and self._replica.shed_low_priority:
            raise shed(RETRY_SHED_S)
        self._check_room(model.dispatcher, len(message.texts))
        self._check_deadline(model.batcher, arrival, tokens=0)
        self._telemetry.entered()
        try:
            texts = list(message.texts)
            encoded = await self._tokenize(model.tokenizer, texts, options.truncate)
            jobs = [
                text_job(task, options, text, tokens) for text, tokens in zip(texts, encoded, strict=True)
            ]
            return await self._batched(model.batcher, jobs, arrival)
        finally:
            self._telemetry.left()

    async def _tokenize(
        self, tokenizer: TextTokenizer, texts: list[str], truncate: bool
    ) -> list[EncodedText]:
        """Short texts at once: their tokens take less time than the way to a thread and back. Else in slices
        on the tokenizer's thread, so that a request of many texts does not hold up all others."""
        if sum(map(len, texts)) <= TOKENIZED_HERE_CHARACTERS:
            return _fitting(tokenizer.encode(texts, truncate), 0)
        self._tokenizing_texts += len(texts)
        loop = asyncio.get_running_loop()
        encoded: list[EncodedText] = []
        try:
            for first in range(0, len(texts), TOKENIZED_AT_ONCE):
                some = texts[first : first + TOKENIZED_AT_ONCE]
                tokens = await loop.run_in_executor(self._thread, tokenizer.encode, some, truncate)
                encoded += _fitting(tokens, first)
        finally:
            self._tokenizing_texts -= len(texts)
        return encoded

    async def _batched(self, batcher: Batcher, jobs: list[TextJob], arrival: Arrival) -> Request:
        self._check_deadline(batcher, arrival, tokens=sum(len(job.encoded) for job in jobs))
        span_s = min(arrival.deadline_s - arrival.arrived_s, batcher.dispatcher.slo_s)
        due_s = arrival.arrived_s + DUE_FRACTION * span_s
        request = Request(jobs, arrival.arrived_s, due_s, arrival.deadline_s)
        await batcher.answer(request)
        return request

    def _check_open(self) -> None:
        if self._replica.closing:
            raise unavailable("draining", "this replica is draining", RETRY_ELSEWHERE_S)
        if self._replica.state == REPLICA_STATE_STARTING:
            raise unavailable("starting", "the model is being loaded", RETRY_STARTING_S)

    def _check_room(self, dispatcher: Dispatcher, texts: int) -> None:
        load = Load(
            self._telemetry.counters.in_flight,
            dispatcher.waiting_texts + self._tokenizing_texts,
            dispatcher.waiting_tokens,
        )
        full = admit(texts, load, self._limits.admission, dispatcher.service_time.current)
        if full is not None:
            raise queue_full(full.message, full.retry_after_s)

    def _check_deadline(self, batcher: Batcher, arrival: Arrival, tokens: int) -> None:
        """The least that is still to come: the batch in the engine, then this request as an unpadded one."""
        least_s = batcher.busy_s() + batcher.dispatcher.service_time.current.batch_s(tokens)
        left_s = arrival.deadline_s - self._clock()
        if left_s < least_s:
            times = f"{max(0.0, left_s) * 1000:.1f} ms are left and {least_s * 1000:.1f} ms are needed"
            raise deadline_exceeded(f"{times}: nothing was computed")

    def _reply(self, message: AnyRequest, request: Request, identity: ModelIdentity) -> AnyResponse:
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
            return ClassifyResponse(results=labels, usage=usage, model=identity)
        entities = cast(list[EntityList], request.results)
        return ExtractEntitiesResponse(results=entities, usage=usage, model=identity)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


def _fitting(tokens: list[EncodedText] | TooLong, first: int) -> list[EncodedText]:
    """`tokens` of the request's texts from `first` on. Raises Refusal where one is too long."""
    if isinstance(tokens, TooLong):
        hint = "LONG_TEXT_TRUNCATE reads its beginning"
        raise invalid([Violation(f"texts[{first + tokens.index}]", f"{tokens.length} ({hint})")])
    return tokens
