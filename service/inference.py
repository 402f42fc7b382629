"""One request from door to reply: who calls, admission, validation, tokens, the batcher, and the books.

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
from service.admission import AdmissionLimits
from service.answers import text_job
from service.batcher import Batcher, late
from service.calls import Call
from service.gate import Ask, Gate
from service.replica import Replica
from service.request import Request
from service.statuses import (
    Refusal,
    Violation,
    internal,
    invalid,
)
from service.telemetry import Telemetry
from service.tokenize import TextTokenizer, TooLong
from service.validation import check
from service.wire import Unreadable

TOKENIZED_HERE_CHARACTERS = 1000  # about 0.6 ms; a thread there and back is 0.1 ms, and waits for the GIL
TOKENIZED_AT_ONCE = 16  # texts, on the thread
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
        self._gate = Gate(batcher, replica, telemetry, limits.admission, clock)
        self._clock = clock
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
            self._counted(arrival, late())
        else:
            self._telemetry.cancelled(arrival.method, self._clock() - arrival.arrived_s)
            if arrival.caller is not None:
                arrival.caller.usage.outcomes["cancelled"] += 1

    async def _computed(self, message: AnyRequest | Unreadable, arrival: Arrival) -> Request:
        """Cheap refusals first: who calls, whether there is room, and only then what the texts are."""
        caller = arrival.caller = self._access.caller(arrival.call, "infer")
        self._gate.check_open()
        if isinstance(message, Unreadable):
            raise message.refusal
        texts = len(message.texts)
        if not 0 < texts <= self._limits.max_texts:
            check(message, self._spec, self._limits.max_texts)  # raises: there will never be room
        batch = message.options.priority == PRIORITY_BATCH
        ask = Ask(texts, message.ByteSize(), batch, arrival.arrived_s, arrival.deadline_s)
        entered = self._gate.enter(ask, caller)
        try:
            task, options = check(message, self._spec, self._limits.max_texts)
            strings = list(message.texts)
            encoded = await self._tokenize(strings, options.truncate)
            self._gate.tokenized(entered, sum(map(len, encoded)))
            jobs = [text_job(task, options, text, one) for text, one in zip(strings, encoded, strict=True)]
            request = Request(jobs, arrival.arrived_s, entered.due_s, arrival.deadline_s, entered.share)
            await self._batcher.answer(request)
            self._gate.answered(entered)
            return request
        finally:
            self._gate.leave(entered)

    async def _tokenize(self, texts: list[str], truncate: bool) -> list[EncodedText]:
        """Short texts at once: their tokens take less time than the way to a thread and back. Else in slices
        on the tokenizer's thread, so that a request of many texts does not hold up all others."""
        if sum(map(len, texts)) <= TOKENIZED_HERE_CHARACTERS:
            return _fitting(self._tokenizer.encode(texts, truncate), 0)
        loop = asyncio.get_running_loop()
        encoded: list[EncodedText] = []
        for first in range(0, len(texts), TOKENIZED_AT_ONCE):
            some = texts[first : first + TOKENIZED_AT_ONCE]
            tokens = await loop.run_in_executor(self._thread, self._tokenizer.encode, some, truncate)
            encoded += _fitting(tokens, first)
        return encoded

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


def _fitting(tokens: list[EncodedText] | TooLong, first: int) -> list[EncodedText]:
    """`tokens` of the request's texts from `first` on. Raises Refusal where one is too long."""
    if isinstance(tokens, TooLong):
        hint = "LONG_TEXT_TRUNCATE reads its beginning"
        raise invalid([Violation(f"texts[{first + tokens.index}]", f"{tokens.length} ({hint})")])
    return tokens
