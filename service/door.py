"""The gRPC front end of a replica: its port, what stands behind it, and how it closes without losing a call.

Called by `server`. Bytes and calls are `service.front`'s matter, which requests are answered how that of the
services it is opened with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minwatt.v1.errors import UsageError
from service.calls import Service
from service.changed_files import stamps
from service.front import health, reflection, tls
from service.front.connections import Connections
from service.front.ending import LINGER_S
from service.front.exchange import CallLimits
from service.front.framing import Inflow
from service.front.health import Health
from service.front.http2 import Http2Connection, Http2Options
from service.front.router import Router
from service.front.tls import TlsFiles

BACKLOG = 1024
ACCEPT_TURNS = 3  # of the event loop, from a waiting connection to its protocol
HANDSHAKE_S = 10.0
OVER_LIMIT = 4  # × the message limit: up to there a service refuses with details, beyond it nothing is read
INFLOW_LIMIT = 16  # × what one message may have: messages of all clients that have come in part
# Of one connection, beyond it the client is let go: × the message limit, or so many bytes. A full queue's
# answers are less: 1,024 texts of 128 tokens, each token an entity, are 3 MiB.
UNSENT_LIMIT, LEAST_UNSENT_BYTES = 16, 16 * 1024**2


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
    max_connection_streams: int
    tls: TlsFiles | None = None
    bound: tuple[socket.socket, ...] = ()  # to host and port, not listening yet; none: it binds its own


def bound(host: str, port: int, reuse_port: bool, listening: bool = True) -> list[socket.socket]:
    """A socket for every address of the host, on one port. Raises UsageError."""
    found: list[socket.socket] = []
    try:
        resolved = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in resolved):
            one = socket.socket(family, socket.SOCK_STREAM)
            found.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                both = address[0] == "::" and socket.has_dualstack_ipv6()
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            own_port = found[0].getsockname()[1] if len(found) > 1 else port
            one.bind((address[0], own_port, *address[2:]))
            if listening:
                one.listen(BACKLOG)
    except OSError as error:
        for one in found:
            one.close()
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UsageError(
            f"port = {port}: {authority(host, port)} can't be bound ({why}); 0 takes a free port, "
            "--reuse-port shares one"
        ) from error
    return found


class Door:
    """Closed until `open`; health says NOT_SERVING until `set_serving(True)`."""

    def __init__(self, options: DoorOptions) -> None:
        """Reads the certificates. Raises UsageError."""
        self._options = options
        self._serving = False
        self._health: Health | None = None
        self._connections = Connections()
        self._protocol: Callable[[], Http2Connection]
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._following: asyncio.Task[None] | None = None
        self._certificates = () if options.tls is None else stamps(options.tls.paths)
        self._context = None if options.tls is None else tls.load(options.tls)

    async def open(self, services: Sequence[Service], files: Sequence[Any] = ()) -> str:
        """Listens; returns host:port. `files`: the descriptors of what the services speak, for reflection.
        Raises UsageError where it can't listen."""
        names = [service.name for service in services]
        self._health = Health(names, self._serving)
        own = (
            self._health.service(),
            *reflection.services([*names, health.NAME], [*files, health.FILE]),
        )
        most_bytes = OVER_LIMIT * self._options.max_message_bytes
        router = Router([*services, *own], CallLimits(most_bytes, Inflow(INFLOW_LIMIT * most_bytes)))
        self._protocol = partial(Http2Connection, self._http2_options(), router.start, self._connections)
        _allow_many_connections()
        options = self._options
        self._sockets = [*options.bound] or bound(options.host, options.port, options.reuse_port)
        self._servers = [await self._listen(one) for one in self._sockets]
        if self._options.tls is not None:
            following = tls.follow(self._options.tls, self._certificates, self._take)
            self._following = asyncio.create_task(following)
        return authority(self._options.host, self._sockets[0].getsockname()[1])

    def set_serving(self, serving: bool) -> None:
        """What grpc.health.v1 answers for the server and for its services."""
        self._serving = serving
        if self._health is not None:
            self._health.set(serving)

    async def close(self, grace_s: float) -> None:
        """No new connections; the open ones are told to go. What is in flight has `grace_s`, then it is cut.

        Requests on their way while a client hears of it are answered like all others.
        """
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)  # what the kernel has connected is accepted: it would be reset
        self._connections.closing = True
        for server in self._servers:
            server.close()
        for one in self._sockets:
            one.close()
        if self._health is not None:
            self._health.close()
        for connection in self._connections:
            connection.retire()
        await self._connections.gone(grace_s)
        tasks = [task for connection in self._connections for task in connection.tasks()]
        for connection in self._connections:
            connection.cut()
        if tasks:
            await asyncio.wait(tasks, timeout=LINGER_S)  # they are cancelled
        await self._connections.gone(3 * LINGER_S)

    async def _listen(self, one: socket.socket) -> asyncio.Server:
        """Accepts from its own handle of the socket, so that another may take over without a gap."""
        return await asyncio.get_running_loop().create_server(
            self._protocol,
            sock=one.dup(),
            backlog=BACKLOG,
            ssl=self._context,
            ssl_handshake_timeout=None if self._context is None else HANDSHAKE_S,
        )

    def _http2_options(self) -> Http2Options:
        options = self._options
        unsent_bytes = max(UNSENT_LIMIT * options.max_message_bytes, LEAST_UNSENT_BYTES)
        return Http2Options(options.max_connection_streams, options.max_connection_age_s, unsent_bytes)

    async def _take(self, context: ssl.SSLContext) -> None:
        """Certificates for the connections to come."""
        self._context = context
        before, self._servers = self._servers, [await self._listen(one) for one in self._sockets]
        for server in before:
            server.close()


def _allow_many_connections() -> None:
    """As many open files as this user may have: the usual 1,024 are for programs that select()."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # refused to some containers: then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
