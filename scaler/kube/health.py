"""The port that a kubelet probes: `/livez` and `/readyz`, plain HTTP.

Owns a server of a few lines on the controller's own event loop: an answer says that the loop turns. Nothing
else is served here; metrics have their own port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from minwatt.v1.errors import UsageError

_LIMIT_S = 5.0
_LONGEST_LINE = 8192


class Health:
    def __init__(self, server: asyncio.Server, port: int) -> None:
        self._server = server
        self.port = port

    @classmethod
    async def listen(cls, host: str, port: int, ready: Callable[[], bool]) -> Health:
        """Raises UsageError when the port can't be had."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                line = await asyncio.wait_for(reader.readline(), _LIMIT_S)
                writer.write(_answer(line, ready))
                await asyncio.wait_for(writer.drain(), _LIMIT_S)
            except (TimeoutError, OSError, ValueError):
                pass  # whoever asked is gone, or asks no question
            finally:
                writer.close()

        try:
            server = await asyncio.start_server(answer, host, port, limit=_LONGEST_LINE)
        except OSError as error:
            raise UsageError(f"--health-port = {port}: can't listen on {host} ({error.strerror})") from error
        return cls(server, server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


def _answer(line: bytes, ready: Callable[[], bool]) -> bytes:
    words = line.split()
    path = words[1].partition(b"?")[0] if len(words) >= 2 and words[0] in {b"GET", b"HEAD"} else b""
    if path == b"/livez":
        status, text = "200 OK", "ok"
    elif path == b"/readyz":
        well = ready()
        status, text = ("200 OK", "ok") if well else ("503 Service Unavailable", "policies not listed yet")
    else:
        status, text = "404 Not Found", "allowed: /livez, /readyz"
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
