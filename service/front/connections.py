"""The connections that are open: told by themselves, waited for by `door` as it closes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.front.http2 import Http2Connection


class Connections:
    """Those that are open."""

    def __init__(self) -> None:
        self._open: set[Http2Connection] = set()
        self._none_left = asyncio.Event()
        self.closing = False  # none is taken any more

    def __iter__(self) -> Iterator[Http2Connection]:
        return iter(tuple(self._open))

    def add(self, connection: Http2Connection) -> None:
        self._open.add(connection)
        self._none_left.clear()

    def remove(self, connection: Http2Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_left.set()

    async def gone(self, within_s: float) -> None:
        """Waits for the last one to close, so long."""
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), within_s)
