"""`grpc.reflection`: what is served here, for clients that bring no .proto of their own, such as grpcurl."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from service.calls import Service, Stream, StreamCall
from service.wire import Reader, Unreadable

V1ALPHA: str = SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")  # the same messages under another name
MAX_BYTES = 4096


def services(names: Iterable[str], pool: DescriptorPool | None) -> tuple[Service, Service]:
    """Reflection of the named services and of itself; None: all stand in protobuf's own pool."""
    answers: Any = ReflectionServicer((*names, V1ALPHA, V1), pool)  # its context is unused
    read = Reader(ServerReflectionRequest, MAX_BYTES)

    async def info(call: StreamCall) -> None:
        while (message := await call.read()) is not None:
            request = read(message)
            if isinstance(request, Unreadable):
                raise request.refusal
            for answer in answers.ServerReflectionInfo(iter([request]), None):
                await call.write(answer.SerializeToString())

    stream: dict[str, Stream] = {"ServerReflectionInfo": info}
    return Service(V1ALPHA, streams=stream), Service(V1, streams=stream)
