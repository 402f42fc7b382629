"""ModelInfer and ModelStreamInfer: a request from its bytes to its reply, by way of `service.inference`.

Owns the order of a stream's replies and what is counted for ModelStatistics. Mounted by `service`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable

from service.answering import Answering
from service.calls import Call, StreamCall
from service.oip import open_inference_pb2 as pb
from service.oip.infer_request import Asked, asked, in_own_words
from service.oip.infer_response import response
from service.oip.models import Catalog
from service.oip.statistics import ModelCounts, Took
from service.statuses import Refusal
from service.wire import Reader, Unreadable

Clock = Callable[[], float]


class Inferring:
    """One per replica."""

    def __init__(
        self,
        inference: Answering,
        catalog: Catalog,
        max_message_bytes: int,
        max_stream_in_flight: int,
        counts: defaultdict[str, ModelCounts],
        clock: Clock = time.monotonic,
        epoch_clock: Clock = time.time,
    ) -> None:
        self._inference = inference
        self._catalog = catalog
        self._read = Reader(pb.ModelInferRequest, max_message_bytes)
        self._max_stream_in_flight = max_stream_in_flight
        self._clock = clock
        self._epoch_clock = epoch_clock
        self.counts = counts  # by model

    async def unary(self, data: bytes, call: Call) -> bytes:
        """ModelInfer."""
        reply = await self._answered("ModelInfer", self._read(data), call)
        return reply.SerializeToString()

    async def stream(self, call: StreamCall) -> None:
        """ModelStreamInfer: requests are computed side by side, replies leave in their order."""
        replies: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(self._max_stream_in_flight)

        async def write() -> None:
            while (reply := await replies.get()) is not None:
                await call.write(await reply)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            while (data := await call.read()) is not None:
                await replies.put(tasks.create_task(self._streamed(data, call)))
            await replies.put(None)

    async def _streamed(self, data: bytes, call: Call) -> bytes:
        """A stream goes on after a refusal, as Triton's does; the id tells which request it was of."""
        message = self._read(data)
        id_ = "" if isinstance(message, Unreadable) else message.id
        try:
            answer = await self._answered("ModelStreamInfer", message, call)
        except Refusal as refusal:
            answer = pb.ModelInferResponse(id=id_)
            reply = pb.ModelStreamInferResponse(error_message=refusal.message, infer_response=answer)
        else:
            reply = pb.ModelStreamInferResponse(infer_response=answer)
        reply.infer_response.parameters["triton_final_response"].bool_param = True
        return reply.SerializeToString()

    async def _answered(
        self, method: str, message: pb.ModelInferRequest | Unreadable, call: Call
    ) -> pb.ModelInferResponse:
        started_s = self._clock()
        question = self._question(message)
        if isinstance(question, Unreadable):
            await self._inference.answer(question, self._inference.arrival(method, call))
            raise question.refusal  # as the line above has done, which counts it
        arrival = self._inference.arrival(method, call, question.timeout_s)
        counts = self.counts[question.model.name]
        asked_s = self._clock()
        try:
            answer = await self._inference.answer(question.request, arrival)
        except (Refusal, asyncio.CancelledError) as error:
            counts.unanswered(self._epoch_clock(), self._clock() - started_s)
            if isinstance(error, Refusal):
                raise in_own_words(error) from None
            raise
        answered_s = self._clock()
        reply = response(question, answer)
        ended_s = self._clock()
        took = Took(ended_s - started_s, asked_s - started_s, ended_s - answered_s)
        assert arrival.cost is not None  # noqa: S101 - it is answered
        counts.answered(self._epoch_clock(), took, len(question.request.texts), arrival.cost)
        return reply

    def _question(self, message: pb.ModelInferRequest | Unreadable) -> Asked | Unreadable:
        if isinstance(message, Unreadable):
            return message
        try:
            return asked(message, self._catalog.get(message.model_name, message.model_version))
        except Refusal as refusal:
            return Unreadable(refusal)
