"""The scenarios' loop: its time passes only where nothing is to be done and nothing is on its way."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.kube_api.jumping_loop import run_jumping

LARGE = bytes(8 * 1024 * 1024)  # more than a socket holds


@pytest.fixture
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel so busy that nothing has come unless it is waited for."""
    select = selectors.DefaultSelector.select

    def late(
        self: selectors.DefaultSelector, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        return [] if timeout is not None and timeout < 1.0 else select(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", late)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def play(answer: Answer, ask: Answer) -> float:
    """`ask` is the client, `answer` the server. Returns how many seconds passed."""
    passed_s = 0.0

    async def main() -> None:
        nonlocal passed_s
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(60):
            await ask(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        passed_s = asyncio.get_running_loop().time()

    run_jumping(main)
    return passed_s


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize("body", [b"x", LARGE])
def test_time_stands_while_bytes_or_an_end_are_on_their_way(body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(body)
        writer.write_eof()
        assert await reader.read() == body
        writer.close()
        await writer.wait_closed()

    assert play(answer, ask) == 0.0


@pytest.mark.usefixtures("_late")
def test_time_stands_while_a_thread_works() -> None:
    async def main() -> None:
        async with asyncio.timeout(1):
            assert await asyncio.to_thread(time.sleep, 0.01) is None
        assert asyncio.get_running_loop().time() == 0.0

    run_jumping(main)


def test_time_passes_beside_what_nobody_reads() -> None:
    """Sent, and held up by a reader that waits for something else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(1)) == b"x"
        await asyncio.sleep(50)
        assert len(await reader.readexactly(len(LARGE) - 1)) == len(LARGE) - 1
        writer.close()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" + LARGE[1:])
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    assert play(answer, ask) == 50.0
