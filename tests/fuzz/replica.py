"""A replica without a transport that takes any bytes as a message, and the law each answer must keep."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from google.protobuf.message import Message

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY
from minwatt.v1.inference_pb2 import (
    ClassifyRequest,
    ClassifyResponse,
    ClassifyStreamRequest,
    ExtractEntitiesRequest,
    ExtractEntitiesResponse,
    ExtractEntitiesStreamRequest,
)
from service.assembly import assemble
from service.settings import ServeSettings
from service.statuses import Refusal
from service.wire import Reader, Unreadable

MAX_MESSAGE_BYTES = 64 * 1024
MOST_DETAILS_BYTES = 7 * 1024  # gRPC peers take 8 KiB of headers by default
ANSWER_WITHIN_S = 60.0  # beyond it the replica hangs
OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
REQUESTS: dict[str, type[Message]] = {
    "Classify": ClassifyRequest,
    "ExtractEntities": ExtractEntitiesRequest,
    "ClassifyStream": ClassifyStreamRequest,
    "ExtractEntitiesStream": ExtractEntitiesStreamRequest,
}


class FuzzedReplica:
    """Has a loop of its own; `take` may be called any number of times, then `close`."""

    def __init__(self, model: Path, **flags: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._parts = assemble(
            ServeSettings.of_flags(model=model, meter="modelled", max_delay="0s", slo="10s", **flags)
        )
        self._parts.replica.state = REPLICA_STATE_READY
        self._run = self._loop.create_task(self._parts.lifecycle.run())
        self._readers = {name: Reader(kind, MAX_MESSAGE_BYTES) for name, kind in REQUESTS.items()}

    def take(self, method: str, data: bytes) -> grpc.StatusCode:
        """The status of one request. Asserts the law: an answer for each text, or a refusal that says why."""
        return self._loop.run_until_complete(asyncio.wait_for(self._take(method, data), ANSWER_WITHIN_S))

    async def _take(self, method: str, data: bytes) -> grpc.StatusCode:
        message = self._readers[method](data)
        if isinstance(message, ClassifyStreamRequest | ExtractEntitiesStreamRequest):
            message = message.request
        inference = self._parts.inference
        try:
            reply = await inference.answer(message, inference.arrival(method, None, None))
        except Refusal as refusal:
            return _lawful(refusal)
        finally:
            assert self._parts.counters.in_flight == 0
        assert not isinstance(message, Unreadable)
        assert isinstance(reply, ClassifyResponse | ExtractEntitiesResponse)
        assert len(reply.results) == len(message.texts)
        if isinstance(reply, ExtractEntitiesResponse):
            for text, result in zip(message.texts, reply.results, strict=True):
                assert all(entity.text == text[entity.start : entity.end] for entity in result.entities)
        reply.SerializeToString()
        return grpc.StatusCode.OK

    def close(self) -> None:
        self._run.cancel()
        self._loop.run_until_complete(asyncio.wait({self._run}))
        self._parts.inference.close()
        self._parts.power.close()
        self._loop.close()


def _lawful(refusal: Refusal) -> grpc.StatusCode:
    assert refusal.code not in OUR_FAULT, refusal
    assert refusal.message
    assert refusal.message.encode()  # no half of a surrogate pair: it must go into a trailer
    assert refusal.status().ByteSize() <= MOST_DETAILS_BYTES
    return refusal.code
