"""A request whose texts came as tokens: let in, computed and counted as all others are.

Differs from `Inference` in where a request comes from and in what becomes of its answer, which is packed.
Called by `engine_door`, in the engine process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self, cast

from minwatt.v1.inference_pb2 import ModelIdentity
from service.access import Caller
from service.answers import packing
from service.capture.describing import Described
from service.fronts import records
from service.fronts.records import Answer, Submission
from service.gate import Ask, Pass
from service.inference import Arrival, Inference
from service.lifecycle.resident import ResidentModel
from service.request import Answered, Request, TextJob


class Shown:
    """What a front end tells of a call (`service.calls.Call`)."""

    def __init__(
        self, metadata: Any, peer_identity: str | None = None, timeout_s: float | None = None
    ) -> None:
        self._metadata = metadata
        self.peer_identity = peer_identity
        self.timeout_s = timeout_s

    def metadata(self, key: str) -> str | None:
        value: str | None = self._metadata.get(key)
        return value


class SubmittedInference(Inference):
    """One per engine process. `answer` takes a submission with its model, and gives an answer's record."""

    @classmethod
    def beside(cls, inference: Inference) -> Self:
        """With the same models and books."""
        return cls(
            inference._models,
            inference._telemetry,
            inference._limits,
            inference._access,
            inference._tracer,
            inference._clock,
            inference._sampling,
        )

    def submitted(self, one: Submission) -> Arrival:
        """Counts it at the door."""
        self._telemetry.arrived()
        call = Shown(one.metadata) if one.metadata else None
        span = None if self._tracer is None else self._tracer.request(one.method, one.arrived_s, call)
        if span is not None:
            span.stage("tokenise", *one.tokenised_s)
        sampled = self._sampling is not None and self._sampling.wanted()
        return Arrival(one.method, one.arrived_s, one.deadline_s, call, span, sampled=sampled)

    async def packed_answer(self, one: Submission, model: ResidentModel, arrival: Arrival) -> bytes:
        """Its record. Raises Refusal; cancelling it withdraws the request. Each way out is counted once."""
        return cast(bytes, await self.answer(cast(Any, (one, model)), arrival))

    def left_at_once(self, arrival: Arrival) -> None:
        """Its client had left, or its time was over, before anything was looked at."""
        self._left_by_client(arrival)

    async def _answered(self, message: Any, arrival: Arrival) -> tuple[Answered, ModelIdentity]:
        one, model = cast(tuple[Submission, ResidentModel], message)
        caller = arrival.caller = self._access.known(one.tenant)
        model.gate.check_open()
        return await self._packed(one, model, arrival, caller), model.identity

    async def _packed(
        self, one: Submission, model: ResidentModel, arrival: Arrival, caller: Caller
    ) -> Answered:
        gate, known = model.gate, model.known
        count = len(one.texts)
        entered = gate.enter(Ask(count, one.size_bytes, one.batch, one.arrived_s, one.deadline_s), caller)
        try:
            if known is not None and one.keys:
                compute = partial(self._compute, one, model, arrival, entered)
                return await known.packed(one.keys, one.batch, compute, one.deadline_s)
            request = await self._compute(one, model, arrival, entered, range(count))
            return Answered(request.results, request.cost)
        finally:
            gate.leave(entered)

    async def _compute(
        self,
        one: Submission,
        model: ResidentModel,
        arrival: Arrival,
        entered: Pass,
        indexes: Sequence[int],
    ) -> Request:
        """Those of its texts, as `Inference` does it."""
        task = model.spec.tasks[one.task]
        texts = [one.texts[index] for index in indexes]
        model.gate.tokenized(entered, sum(map(len, texts)), len(texts))
        jobs = [TextJob(text, task.output, packing(task, text)) for text in texts]
        request = Request(
            jobs, one.arrived_s, entered.due_s, one.deadline_s, entered.share, span=arrival.span
        )
        await model.batcher.answer(request)
        model.gate.answered(entered)
        return request

    def _described(self, message: Any) -> Described | None:
        one, model = cast(tuple[Submission, ResidentModel], message)
        tokens = sum(map(len, one.texts))
        task: Literal["classify", "extract"] = "classify"
        if model.spec.tasks[one.task].kind == "ner":
            task = "extract"
        no_cache = model.known is not None and not one.keys
        name = self._known_name(model.name)
        # Its texts are cut already where they had to be: as many tokens are never refused.
        return Described(
            task, len(one.texts), tokens, one.size_bytes, one.batch, name, no_cache, truncate=False
        )

    def _reply(self, message: Any, answered: Answered, identity: ModelIdentity) -> Any:  # noqa: ARG002
        one, _ = cast(tuple[Submission, ResidentModel], message)
        source = "unknown" if answered.cost.energy_j is None else self._telemetry.energy_source
        packed = cast(Sequence[bytes], answered.results)
        return records.answer(Answer(one.id, answered.cost, source, packed))
