"""The gRPC server of a replica: its port, health, reflection and the options that spread connections.

Called by `server`. Which requests are answered how is `rpc`'s and `inference`'s matter.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import DESCRIPTOR as INFERENCE
from service.descriptors import one_pool
from service.oip.open_inference_pb2 import DESCRIPTOR as OPEN_INFERENCE
from service.oip.service import NAME as OPEN_INFERENCE_SERVICE
from service.rpc import SERVICE

AGE_GRACE_S = 30.0  # a connection that has grown old may still finish what it carries
OVER_LIMIT = (
    4  # × the message limit: up to there a message is refused with details, beyond it by the transport
)


def authority(host: str, port: int) -> str:
    """host:port as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class DoorOptions:
    host: str
    port: int  # 0: a free one
    reuse_port: bool  # several replicas share the port, the kernel spreads connections over them
    max_message_bytes: int
    max_connection_age_s: float


class Door:
    """Closed until `open`; health says NOT_SERVING until `set_serving(True)`."""

    def __init__(self, options: DoorOptions) -> None:
        self._options = options
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(options.reuse_port)),
                ("grpc.max_receive_message_length", OVER_LIMIT * options.max_message_bytes),
                (
                    "grpc.max_connection_age_ms",
                    round(options.max_connection_age_s * 1000),
                ),  # gRPC adds ±10% jitter
                ("grpc.max_connection_age_grace_ms", round(AGE_GRACE_S * 1000)),
            ]
        )
        self._health: Any = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, OPEN_INFERENCE_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        files = (INFERENCE, OPEN_INFERENCE, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
        reflection.enable_server_reflection(names, self._server, one_pool(*files))

    async def open(self, *handlers: grpc.GenericRpcHandler) -> str:
        """Listens; returns host:port. Raises UsageError where that can't be."""
        asked = authority(self._options.host, self._options.port)
        try:
            self._probe()
            self._server.add_generic_rpc_handlers(handlers)
            port = self._server.add_insecure_port(asked)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or "refused by gRPC"
            raise UsageError(
                f"port = {self._options.port}: {asked} can't be bound ({why}); 0 takes a free port, "
                "--reuse-port shares one"
            ) from error
        await self._server.start()
        return authority(self._options.host, port)

    def _probe(self) -> None:
        """Binds as gRPC will and lets go: gRPC tells its caller no reason, and logs lines of its own."""
        options = self._options
        address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if options.reuse_port:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address[4])

    async def set_serving(self, serving: bool) -> None:
        """What grpc.health.v1 answers for the server and for each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", SERVICE, OPEN_INFERENCE_SERVICE):
            await self._health.set(name, status)

    async def close(self, grace_s: float) -> None:
        """No new calls, GOAWAY to every connection; calls in flight have `grace_s`, then they are cut."""
        await self._server.stop(grace_s)
