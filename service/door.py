"""The gRPC server of a replica: its port, health, reflection and the options that spread connections.

Called by `server`. Which requests are answered how is `rpc`'s and `inference`'s matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from minwatt.v1.errors import UsageError
from service.rpc import SERVICE

AGE_GRACE_S = 30.0  # a connection that has grown old may still finish what it carries
OVER_LIMIT = (
    4  # × the message limit: up to there a message is refused with details, beyond it by the transport
)


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
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def open(self, handler: grpc.GenericRpcHandler) -> str:
        """Listens; returns host:port. Raises UsageError when the port is taken."""
        self._server.add_generic_rpc_handlers((handler,))
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        try:
            port = self._server.add_insecure_port(f"{host}:{self._options.port}")
        except RuntimeError as error:
            raise UsageError(
                f"port = {self._options.port}: {host}:{self._options.port} can't be bound: taken, or the "
                "host is not this machine's; 0 takes a free port, --reuse-port shares one"
            ) from error
        await self._server.start()
        return f"{host}:{port}"

    async def set_serving(self, serving: bool) -> None:
        """What grpc.health.v1 answers for the server and for the service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def close(self, grace_s: float) -> None:
        """No new calls, GOAWAY to every connection; calls in flight have `grace_s`, then they are cut."""
        await self._server.stop(grace_s)
