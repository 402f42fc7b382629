"""The page over HTTP: files, the state as JSON, and what happens as server-sent events.

The only file of the scaler that imports aiohttp's server. Owns who may look: anybody on this machine while
it listens on the loopback, by a name of the loopback, so that no page of elsewhere reaches it by a name of
its own (DNS rebinding); where it listens for others, whoever shows a token. Leaves what is shown to `board`.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from minwatt.v1.bus_token import admits, shown
from minwatt.v1.errors import UsageError
from scaler.dashboard.board import Board
from scaler.dashboard.options import is_loopback
from scaler.settings import Settings

_COOKIE = "minwatt-token"
_SPANS_S = (900.0, 14_400.0, 86_400.0)
_ALIVE_S = 15.0  # a comment that often keeps proxies from ending a stream that has nothing to say
_CLOSING_S = 1.0
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Plotly writes styles into the page; scripts come from here alone.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Dashboard:
    """Of many policies. `listen`, then `close`. `may_move`: to a free port where the one wanted is taken."""

    host: str
    port: int
    tokens: Sequence[str] = ()
    may_move: bool = False
    boards: dict[str, Board] = field(default_factory=dict)  # by name
    _runner: web.AppRunner | None = None

    def of(self, name: str, settings: Settings) -> Board:
        """The policy's; the same one when it was edited."""
        board = self.boards.get(name)
        if board is None:
            board = self.boards[name] = Board(settings)
        board.follow(settings)
        return board

    def forget(self, name: str) -> None:
        board = self.boards.pop(name, None)
        if board is not None:
            board.close()

    async def listen(self) -> str:
        """The address to open. Raises UsageError if it can't be had."""
        app = web.Application(middlewares=[self._guarded])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/page/{name}", self._file),
                web.get("/plotly.js", _plotly),
                web.get("/api/policies", self._policies),
                web.get("/api/state", self._state),
                web.get("/api/events", self._events),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            if not self.may_move:
                await self._runner.cleanup()
                where = f"{self.host}:{self.port}"
                raise UsageError(f"--dashboard = {where!r}: can't listen ({error.strerror})") from error
            await web.TCPSite(self._runner, self.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    async def close(self) -> None:
        for board in self.boards.values():
            board.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not self.tokens and not is_loopback(request.url.host or ""):
            raise web.HTTPForbidden(text="ask for it by a name of the loopback, as http://localhost\n")
        given = request.query.get("token")
        if self.tokens and given is not None and admits(self.tokens, shown(given)):
            there = web.HTTPFound(request.url.without_query_params("token"))
            there.set_cookie(_COOKIE, given, httponly=True, samesite="Strict")
            raise there
        cookie = request.cookies.get(_COOKIE)
        value = request.headers.get("Authorization") or ("" if cookie is None else shown(cookie))
        if self.tokens and not admits(self.tokens, value):
            raise web.HTTPUnauthorized(
                text="a token is needed: open /?token=TOKEN once, or send Authorization: Bearer TOKEN\n"
            )
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _page(self, request: web.Request) -> web.Response:
        return _static(request, "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return _static(request, request.match_info["name"])

    async def _policies(self, _request: web.Request) -> web.Response:
        return web.json_response(sorted(self.boards))

    async def _state(self, request: web.Request) -> web.Response:
        spans = {f"{span_s:g}": span_s for span_s in _SPANS_S}
        asked = request.query.get("span", f"{_SPANS_S[0]:g}")
        if asked not in spans:
            raise web.HTTPBadRequest(text=f"span = {asked!r}: allowed: {', '.join(spans)} (seconds)\n")
        return web.json_response(self._board(request).of(spans[asked]), headers={"Cache-Control": "no-store"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        board = self._board(request)
        response = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        queue = board.look()
        try:
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), _ALIVE_S)
                except TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    break
                await response.write(text.encode())
        except ConnectionError:
            pass  # whoever looked is gone
        finally:
            board.leave(queue)
        return response

    def _board(self, request: web.Request) -> Board:
        name = request.query.get("policy", min(self.boards, default=""))
        board = self.boards.get(name)
        if board is None:
            known = ", ".join(sorted(self.boards)) or "none yet"
            raise web.HTTPNotFound(text=f"policy = {name!r}: known: {known}\n")
        return board


async def _plotly(request: web.Request) -> web.Response:
    """The JavaScript that comes with the installed plotly; a browser keeps it."""
    body = await asyncio.to_thread(_plotly_gzip)
    headers = {"ETag": f'"plotly-{version("plotly")}"', "Cache-Control": "max-age=86400"}
    return _compressed(request, body, "text/javascript", headers)


@cache
def _plotly_gzip() -> bytes:
    return gzip.compress(files("plotly").joinpath("package_data", "plotly.min.js").read_bytes(), 6)


@cache
def _pages() -> Mapping[str, bytes]:
    folder = files("scaler.dashboard").joinpath("page")
    return {one.name: gzip.compress(one.read_bytes()) for one in folder.iterdir() if one.is_file()}


def _static(request: web.Request, name: str) -> web.Response:
    body = _pages().get(name)
    if body is None:
        raise web.HTTPNotFound(text="no such file\n")
    return _compressed(request, body, _TYPES[Path(name).suffix], {"Cache-Control": "no-cache"})


def _compressed(request: web.Request, body: bytes, kind: str, headers: Mapping[str, str]) -> web.Response:
    if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=gzip.decompress(body), content_type=kind, charset="utf-8", headers=headers)
    encoded = {**headers, "Content-Encoding": "gzip"}
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=encoded)
