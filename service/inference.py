"""One request from door to reply: validation, admission, tokens, the batcher, and the books.

Raises Refusal for every way a request can end without an answer. Called by `rpc` for unary calls and for
each item of a stream; batching is `batcher`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from minwatt.v1.capture_file import UNKNOWN_MODEL
from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import (
    PRIORITY_BATCH,
    ModelIdentity,
)
from minwatt.v1.model_dir import Task
from service.access import Access, Caller
from service.admission import AdmissionLimits
from service.answers import text_job
from service.batcher import late
from service.cache.known import KeepAt
from service.calls import Call
from service.capture.describing import Described, described, seen
from service.capture.sampling import Sampling
from service.gate import Ask, Pass
from service.lifecycle.models import Models
from service.lifecycle.resident import ResidentModel
from service.logs import about
from service.replies import AnyRequest, AnyResponse, reply
from service.request import FREE, Answered, Cost, Request
from service.spans import RequestSpan, Tracer
from service.statuses import (
    Refusal,
    Violation,
    internal,
    invalid,
)
from service.telemetry import Telemetry
from service.tokenize import TooLong
from service.tokenizing import Tokenizing
from service.validation import Options, check
from service.wire import Unreadable

CLOCK_SKEW_S = 0.002  # gRPC's timer and ours do not fire in the same instant
log = logging.getLogger(__name__)


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
    call: Call | None = None  # None shows no key
    span: RequestSpan | None = None  # while this request is traced
    caller: Caller | None = None  # once that is known
    cost: Cost | None = None  # once it is answered
    sampled: bool = False  # for a capture
    described: Described | None = None  # of what is sampled, once it is known to be a request


class Inference:
    """The models' answers to requests; one per replica."""

    def __init__(
        self,
        models: Models[ResidentModel],
        telemetry: Telemetry,
        limits: RequestLimits,
        access: Access,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sampling: Sampling | None = None,
    ) -> None:
        self._models = models
        self._sampling = sampling
        self._tracer = tracer
        self._telemetry = telemetry
        self._limits = limits
        self._access = access
        self._clock = clock
        self._tokenizing = Tokenizing()

    def arrival(self, method: str, call: Call | None, timeout_s: float | None = None) -> Arrival:
        """Counts a request at the door. `timeout_s`: its own beside the call's; neither: the default."""
        self._telemetry.arrived()
        now_s = self._clock()
        left_s = None if call is None else call.timeout_s
        if left_s is None or (timeout_s is not None and timeout_s < left_s):
            left_s = timeout_s
        deadline_s = now_s + (self._limits.default_deadline_s if left_s is None else left_s)
        span = None if self._tracer is None else self._tracer.request(method, now_s, call)
        sampled = self._sampling is not None and self._sampling.wanted()
        return Arrival(method, now_s, deadline_s, call, span, sampled=sampled)

    def check_caller(self, call: Call) -> None:
        """Of calls that want no answer to a text. Raises Refusal where who calls is not known."""
        self._access.tenant(call)

    async def answer(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        """The reply. Raises Refusal; cancelling it withdraws the request. Each way out is counted once."""
        if arrival.sampled:
            arrival.described = self._described(message)
        try:
            answered, identity = await self._answered(message, arrival)
            response = self._reply(cast(AnyRequest, message), answered, identity)
        except asyncio.CancelledError:
            self._left_by_client(arrival)
            raise
        except Refusal as refusal:
            raise self._counted(arrival, refusal) from None
        except Exception as error:
            log.exception("%s failed", arrival.method, extra=about(arrival.call, {}))
            raise self._counted(arrival, internal(f"unexpected {type(error).__name__}")) from error
        arrival.cost = answered.cost
        self._telemetry.answered(
            arrival.method, self._clock() - arrival.arrived_s, answered.cost, len(answered.results)
        )
        if arrival.caller is not None:
            arrival.caller.usage.answered(answered.cost.tokens, answered.cost.energy_j)
        self._ended(arrival, "OK", len(answered.results), answered.cost)
        return response

    def _counted(self, arrival: Arrival, refusal: Refusal) -> Refusal:
        self._telemetry.refused(arrival.method, self._clock() - arrival.arrived_s, refusal)
        if arrival.caller is not None:
            arrival.caller.usage.outcomes[refusal.reason] += 1
        self._ended(arrival, refusal.code.name)
        return refusal

    def _ended(self, arrival: Arrival, status: str, texts: int = 0, cost: Cost = FREE) -> None:
        if arrival.span is not None:
            arrival.span.end(self._clock(), status, texts, cost)
        if arrival.described is not None:
            self._capture(arrival, arrival.described, status, cost)
        if log.isEnabledFor(logging.DEBUG):
            took_s = self._clock() - arrival.arrived_s
            fields = {
                "method": arrival.method,
                "status": status,
                "duration_s": round(took_s, 6),
                "texts": texts,
            }
            log.debug("request ended", extra=about(arrival.call, fields))

    def _described(self, message: AnyRequest | Unreadable) -> Described | None:
        """None of what can't be asked again: it was unreadable, or had no texts."""
        if isinstance(message, Unreadable) or not message.texts:
            return None
        keeps_texts = self._sampling is not None and self._sampling.keeps_texts
        return described(message, self._known_name(message.model), keeps_texts)

    def _known_name(self, model: str) -> str:
        """What a client writes there is captured only where it is a model's name."""
        if model in ("", self._models.default.name):
            return ""
        return model if model in self._models.by_name else UNKNOWN_MODEL

    def _capture(self, arrival: Arrival, what: Described, status: str, cost: Cost) -> None:
        if self._sampling is not None:
            tenant = "" if arrival.caller is None else arrival.caller.tenant.name
            times_s = (arrival.arrived_s, arrival.deadline_s, self._clock())
            self._sampling.add(seen(what, tenant, times_s, status, cost))

    def _left_by_client(self, arrival: Arrival) -> None:
        """gRPC cancels a call also when its deadline passes: that is told apart by the time."""
        if self._clock() >= arrival.deadline_s - CLOCK_SKEW_S:
            self._counted(arrival, late())
        else:
            self._telemetry.cancelled(arrival.method, self._clock() - arrival.arrived_s)
            if arrival.caller is not None:
                arrival.caller.usage.outcomes["cancelled"] += 1
            self._ended(arrival, "CANCELLED")

    async def _answered(
        self, message: AnyRequest | Unreadable, arrival: Arrival
    ) -> tuple[Answered, ModelIdentity]:
        """By the model that is there now, to the end, whichever takes its place meanwhile."""
        caller = arrival.caller = self._access.caller(arrival.call, "infer")
        self._models.default.gate.check_open()
        if isinstance(message, Unreadable):
            raise message.refusal
        with self._models.using(message.model) as model:
            return await self._answered_by(model, message, arrival, caller), model.identity

    async def _answered_by(
        self, model: ResidentModel, message: AnyRequest, arrival: Arrival, caller: Caller
    ) -> Answered:
        """Cheap refusals first: whether there is room, and only then what the texts are."""
        gate, known = model.gate, model.known
        count = len(message.texts)
        if not 0 < count <= self._limits.max_texts:
            check(message, model.spec, self._limits.max_texts)  # raises: there will never be room
        batch = message.options.priority == PRIORITY_BATCH
        ask = Ask(count, message.ByteSize(), batch, arrival.arrived_s, arrival.deadline_s)
        entered = gate.enter(ask, caller)
        try:
            task, options = check(message, model.spec, self._limits.max_texts)
            texts = list(message.texts)
            if known is not None and not options.no_cache:
                compute = partial(self._computed, model, task, options, texts, arrival, entered)
                scope = caller.tenant.name  # or tenants could learn of each other's texts
                return await known.answered(task, options, texts, compute, arrival.deadline_s, scope)
            request = await self._computed(model, task, options, texts, arrival, entered, range(count))
            return Answered(request.results, request.cost)
        finally:
            gate.leave(entered)

    async def _computed(
        self,
        model: ResidentModel,
        task: Task,
        options: Options,
        texts: Sequence[str],
        arrival: Arrival,
        entered: Pass,
        indexes: Sequence[int],
        keep: KeepAt | None = None,
    ) -> Request:
        """Of `texts` those at `indexes`, computed; `keep` is given their packed answers."""
        begun_s = self._clock()
        wanted = [texts[index] for index in indexes]
        words = task.kind == "ner"
        tokens = await self._tokenizing.encode(model.tokenizer, wanted, options.truncate, words)
        encoded = _fitting(tokens, indexes)
        if arrival.span is not None:
            arrival.span.stage("tokenise", begun_s, self._clock())
        model.gate.tokenized(entered, sum([len(text.ids) for text in encoded]), len(indexes))
        jobs = [
            text_job(task, options, texts[index], tokens, keep=None if keep is None else partial(keep, index))
            for index, tokens in zip(indexes, encoded, strict=True)
        ]
        request = Request(
            jobs, arrival.arrived_s, entered.due_s, arrival.deadline_s, entered.share, span=arrival.span
        )
        await model.batcher.answer(request)
        model.gate.answered(entered)
        return request

    def _reply(self, message: AnyRequest, answered: Answered, identity: ModelIdentity) -> AnyResponse:
        source = self._telemetry.energy_source
        return reply(message, answered.results, answered.cost, source, identity)

    def close(self) -> None:
        self._tokenizing.close()


def _fitting(tokens: list[EncodedText] | TooLong, indexes: Sequence[int]) -> list[EncodedText]:
    """`tokens` of the request's texts at `indexes`. Raises Refusal where one is too long."""
    if isinstance(tokens, TooLong):
        hint = "LONG_TEXT_TRUNCATE reads its beginning"
        raise invalid([Violation(f"texts[{indexes[tokens.index]}]", f"{tokens.length} ({hint})")])
    return tokens
