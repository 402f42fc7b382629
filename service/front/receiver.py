"""What a connection wants of whoever answers its requests. Called by `http2`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from service.front.http2 import Http2Connection

Header = tuple[bytes, bytes]


class Receiver(Protocol):
    """What becomes of one request; it lives until its stream is closed."""

    def data(self, chunk: bytes, ended: bool) -> None:
        """Bytes of the request's body; `ended`: the last of them, possibly none."""

    def lost(self) -> None:
        """The stream is closed: nothing can be sent any more. At times the second call says so."""

    def closing(self) -> None:
        """The server wants to end: no new work on this stream."""

    def cut(self) -> None:
        """The server ends now: a status may still be sent, nothing else."""

    def task(self) -> asyncio.Task[None] | None:
        """What computes the answer."""


Start = Callable[["Http2Connection", int, Sequence[Header], bool], Receiver]
"""Takes a request: its connection, stream, headers, and whether it has no body."""
