"""From a request's headers to the call that answers it, or to why there is none. Used by `door`."""

from __future__ import annotations

from collections.abc import Sequence

from service.calls import Service, Stream, Unary
from service.front import headers as grpc_headers
from service.front.exchange import CallLimits, UnaryExchange
from service.front.http2 import Http2Connection
from service.front.receiver import Header, Receiver
from service.front.stream import StreamExchange
from service.statuses import unimplemented

_UNKNOWN = tuple(grpc_headers.trailers_of(unimplemented("no such method is served here")))


class Router:
    """Which handler answers which path; called by a connection for each request."""

    def __init__(self, services: Sequence[Service], limits: CallLimits) -> None:
        self._limits = limits
        self._unary: dict[bytes, Unary] = {}
        self._streams: dict[bytes, Stream] = {}
        for service in services:
            prefix = f"/{service.name}/"
            self._unary |= {f"{prefix}{name}".encode(): unary for name, unary in service.unary.items()}
            self._streams |= {f"{prefix}{name}".encode(): stream for name, stream in service.streams.items()}

    def start(
        self, connection: Http2Connection, stream_id: int, headers: Sequence[Header], ended: bool
    ) -> Receiver:
        fields = dict(headers)
        refused = grpc_headers.http_error(fields)
        if refused is not None:
            connection.respond_only(stream_id, refused, early=not ended)
            return _Answered(connection, stream_id)
        path = fields.get(b":path", b"")
        exchange: UnaryExchange | StreamExchange
        if path in self._unary:
            exchange = UnaryExchange(connection, stream_id, headers, self._limits, self._unary[path])
        elif path in self._streams:
            exchange = StreamExchange(connection, stream_id, headers, self._limits, self._streams[path])
        else:
            connection.respond_only(stream_id, [*grpc_headers.BEGINNING, *_UNKNOWN], early=not ended)
            return _Answered(connection, stream_id)
        exchange.begin(fields, ended)
        return exchange


class _Answered:
    """A request that was answered by its headers alone."""

    __slots__ = ("_connection", "_stream_id")

    def __init__(self, connection: Http2Connection, stream_id: int) -> None:
        self._connection = connection
        self._stream_id = stream_id

    def data(self, chunk: bytes, ended: bool) -> None:  # noqa: ARG002 - Receiver's
        self._connection.consumed(self._stream_id, len(chunk))

    def lost(self) -> None:
        pass

    def closing(self) -> None:
        pass

    def cut(self) -> None:
        pass

    def task(self) -> None:
        return None
