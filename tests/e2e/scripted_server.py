"""A TextInference server that does what a test tells it, call by call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceServicer, add_TextInferenceServicer_to_server
from service.statuses import Refusal

Step = Refusal | float  # refuse; or answer after so many seconds
StreamScript = Callable[["grpc.aio.ServicerContext[Any, Any]"], Awaitable[None]]


@dataclass
class Heard:
    """One unary call."""

    at_s: float
    left_s: float
    metadata: dict[str, str | bytes]
    texts: list[str]


@dataclass
class ScriptedServer(TextInferenceServicer):
    """`steps` are taken by one call each, then `otherwise` by all; `streams` by one stream each."""

    steps: deque[Step] = field(default_factory=deque)
    otherwise: Step = 0.0
    streams: deque[StreamScript] = field(default_factory=deque)
    heard: list[Heard] = field(default_factory=list)
    arrivals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # one up for each
    address: str = ""

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        self.heard.append(Heard(time.monotonic(), context.time_remaining(), metadata, list(request.texts)))
        self.arrivals.release()
        step = self.steps.popleft() if self.steps else self.otherwise
        if isinstance(step, Refusal):
            await refuse(context, step)
        else:
            await asyncio.sleep(step)
        return answer(request)

    async def ClassifyStream(self, requests: object, context: Any) -> None:  # noqa: N802
        await self.streams.popleft()(context)

    async def ExtractEntitiesStream(self, requests: object, context: Any) -> None:  # noqa: N802
        await self.streams.popleft()(context)


async def refuse(context: Any, refusal: Refusal) -> None:
    await context.abort(refusal.code, refusal.message, refusal.trailing_metadata())


def answer(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
    """Each text labelled with itself."""
    results = [pb.Classification(labels=[pb.Label(name=text, score=0.5)]) for text in request.texts]
    return pb.ClassifyResponse(results=results)


@asynccontextmanager
async def serving(
    server: ScriptedServer,
    port: int = 0,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (("grpc.so_reuseport", 0),),
) -> AsyncIterator[grpc.aio.Server]:
    """Listens on 127.0.0.1; `server.address` says where."""
    listening = grpc.aio.server(options=options)
    add_TextInferenceServicer_to_server(server, listening)
    at = f"127.0.0.1:{port}"
    if credentials is None:
        port = listening.add_insecure_port(at)
    else:
        port = listening.add_secure_port(at, credentials)
    server.address = f"127.0.0.1:{port}"
    await listening.start()
    try:
        yield listening
    finally:
        await listening.stop(0)


async def not_serving(listening: grpc.aio.Server) -> None:
    """Before it starts: its health says that it is not to be used."""
    servicer: Any = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, listening)
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
