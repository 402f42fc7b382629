"""Both clients against a server that refuses, breaks, stalls and comes back, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import grpc
import pytest

import minwatt
from service.statuses import (
    Refusal,
    Violation,
    invalid,
    queue_full,
    too_large,
    unavailable,
)
from tests.e2e.scripted_server import ScriptedServer, not_serving, serving

Ask = Callable[..., Awaitable[minwatt.Reply[minwatt.Classification]]]
Open = Callable[..., contextlib.AbstractAsyncContextManager[Ask]]

gone = unavailable("draining", "this replica is draining", 0.0)
plain_gone = Refusal(grpc.StatusCode.UNAVAILABLE, "failed", "no details")
plain_gone.trailing_metadata = lambda: ()  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def _asyncio(target: str, **options: Any) -> AsyncIterator[Ask]:
    async with minwatt.AsyncClient(target, **options) as client:
        yield client.classify


@contextlib.asynccontextmanager
async def _blocking(target: str, **options: Any) -> AsyncIterator[Ask]:
    with minwatt.Client(target, **options) as client:

        async def ask(texts: list[str], **how: Any) -> minwatt.Reply[minwatt.Classification]:
            return await asyncio.to_thread(client.classify, texts, **how)

        yield ask


@pytest.fixture(params=[_asyncio, _blocking], ids=["AsyncClient", "Client"])
def client(request: pytest.FixtureRequest) -> Open:
    opener: Open = request.param
    return opener


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    async with serving(scripted):
        yield scripted


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("refusal", [gone, plain_gone], ids=["with details", "without"])
async def test_a_replica_that_is_going_is_asked_again(
    server: ScriptedServer, client: Open, refusal: Refusal
) -> None:
    server.steps = deque([refusal] * 7)  # more than gRPC's own policy would stand
    async with client(server.address) as ask:
        assert (await ask(["a"]))[0].label == "a"
    assert len(server.heard) == 8


@pytest.mark.parametrize(
    "refusal", [queue_full("full", 0.3), unavailable("starting", "not yet", 0.3)], ids=["full", "starting"]
)
async def test_it_is_not_asked_before_the_time_it_gave(
    server: ScriptedServer, client: Open, refusal: Refusal
) -> None:
    server.steps = deque([refusal, refusal])
    async with client(server.address) as ask:
        await ask(["a"])
    times = [heard.at_s for heard in server.heard]
    assert len(times) == 3
    assert min(times[1] - times[0], times[2] - times[1]) >= 0.3


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (queue_full("full", 60.0), minwatt.Overloaded),
        (Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", "used up"), minwatt.Overloaded),
        (unavailable("starting", "not yet", 60.0), minwatt.Unavailable),
        (too_large(10, 5), minwatt.InvalidRequest),
        (invalid([Violation("texts[0]", "is empty")]), minwatt.InvalidRequest),
        (Refusal(grpc.StatusCode.UNAUTHENTICATED, "key", "no key"), minwatt.Unauthenticated),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED, "key", "not this"), minwatt.PermissionDenied),
        (Refusal(grpc.StatusCode.INTERNAL, "failed", "broken"), minwatt.RequestFailed),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.message,
)
async def test_what_no_retry_mends_is_raised_at_once(
    server: ScriptedServer, client: Open, refusal: Refusal, kind: type[minwatt.RequestFailed]
) -> None:
    server.steps = deque([refusal])
    async with client(server.address) as ask:
        with pytest.raises(minwatt.RequestFailed) as raised:
            await ask(["a"])
        assert type(raised.value) is kind
        assert (raised.value.attempts, len(server.heard)) == (1, 1)
        assert (await ask(["a"]))[0].label == "a", "the client is unharmed"


async def test_attempts_share_one_deadline(server: ScriptedServer, client: Open) -> None:
    server.otherwise = gone
    async with client(server.address, timeout_s=1.0) as ask:
        with pytest.raises(minwatt.RequestFailed) as raised:
            await ask(["a"])
    assert raised.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert raised.value.attempts >= len(server.heard) > 2
    left = [heard.left_s for heard in server.heard]
    # What is left when the server looks: of attempts a moment apart the later one may be looked at sooner.
    assert all(later < sooner + 0.01 for sooner, later in pairwise(left))
    assert left[0] <= 1.05
    # Each attempt ends, by its own count, when the first would have: 50 ms for clocks of milliseconds.
    ends = [heard.at_s + heard.left_s for heard in server.heard]
    assert max(ends) - min(ends) < 0.05 + (server.heard[-1].at_s - server.heard[0].at_s) * 0.2


async def test_a_deadline_in_a_later_attempt_says_what_came_before(
    server: ScriptedServer, client: Open
) -> None:
    server.steps = deque([gone, 30.0])
    async with client(server.address) as ask:
        with pytest.raises(minwatt.DeadlineExceeded) as raised:
            await ask(["a"], timeout_s=0.5)
    assert raised.value.attempts == 2
    assert raised.value.__notes__ == ["attempt 2; the one before: UNAVAILABLE: this replica is draining"]


async def test_requests_wait_for_a_server_that_comes_up(client: Open) -> None:
    scripted, port = ScriptedServer(), free_port()
    async with client(f"127.0.0.1:{port}", timeout_s=30) as ask:
        asking = [asyncio.ensure_future(ask(["a"])) for _ in range(5)]
        await asyncio.sleep(0.3)
        async with serving(scripted, port):
            assert [len(await answer) for answer in asking] == [1] * 5


async def test_nobody_there_is_said_with_the_reason(client: Open) -> None:
    async with client(f"127.0.0.1:{free_port()}", timeout_s=0.5) as ask:
        with pytest.raises((minwatt.Unavailable, minwatt.DeadlineExceeded)) as raised:
            await ask(["a"])
    assert raised.value.attempts > 1
    assert "Connection refused" in "".join([str(raised.value), *getattr(raised.value, "__notes__", [])])


async def test_a_goaway_moves_new_requests_and_keeps_the_old(client: Open) -> None:
    old, new = ScriptedServer(otherwise=0.5), ScriptedServer()
    shared: list[tuple[str, Any]] = [("grpc.so_reuseport", 1)]
    async with contextlib.AsyncExitStack() as stack:
        listening = await stack.enter_async_context(serving(old, options=shared))
        port = int(old.address.rpartition(":")[2])
        ask = await stack.enter_async_context(client(old.address, timeout_s=30))
        under_way = [asyncio.ensure_future(ask(["a"])) for _ in range(4)]
        for _ in range(4):
            await old.arrivals.acquire()
        await stack.enter_async_context(serving(new, port, options=shared))
        stopping = asyncio.ensure_future(listening.stop(20))
        await asyncio.sleep(0.05)
        assert [len(await ask(["b"])) for _ in range(4)] == [1] * 4
        assert [len(await answer) for answer in under_way] == [1] * 4
        await stopping
    assert (len(old.heard), len(new.heard)) == (4, 4)


async def test_one_dead_address_of_two_costs_no_request(server: ScriptedServer, client: Open) -> None:
    async with client(f"localhost:{free_port()},{server.address}", timeout_s=30) as ask:
        assert [len(await ask(["a"])) for _ in range(20)] == [1] * 20
    assert len(server.heard) == 20


async def test_requests_spread_over_the_addresses(server: ScriptedServer, client: Open) -> None:
    other = ScriptedServer()
    async with serving(other), client(f"{server.address},{other.address}") as ask:
        for _ in range(20):
            await ask(["a"])
    assert len(server.heard) == len(other.heard) == 10


async def test_an_address_that_says_it_is_not_serving_gets_none(server: ScriptedServer, client: Open) -> None:
    leaving = ScriptedServer()
    listening = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    await not_serving(listening)
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    async with client(f"127.0.0.1:{port},{server.address}") as ask:
        for _ in range(10):
            await ask(["a"])
    await listening.stop(0)
    assert (len(leaving.heard), len(server.heard)) == (0, 10)


async def test_the_key_goes_with_every_call(server: ScriptedServer, client: Open) -> None:
    async with client(server.address, api_key="mw_secret") as ask:
        await ask(["a"])
    assert server.heard[0].metadata["authorization"] == "Bearer mw_secret"


async def test_an_overload_is_not_multiplied(server: ScriptedServer) -> None:
    """Every request refused, each willing to come back often: retries stay within the budget."""
    server.otherwise = queue_full("full", 0.0)
    requests, seconds = 60, 2.0
    async with minwatt.AsyncClient(server.address, timeout_s=seconds) as client:
        start_s = time.monotonic()
        asking = [client.classify(["a"]) for _ in range(requests)]
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        took_s = time.monotonic() - start_s
        assert client.retries["RESOURCE_EXHAUSTED"] >= len(server.heard) - requests
    assert {type(outcome) for outcome in outcomes} <= {minwatt.Overloaded, minwatt.DeadlineExceeded}
    assert len(server.heard) - requests <= 100 + 0.2 * requests + 10 * took_s + 1


async def test_a_call_that_the_application_cancels_is_over(server: ScriptedServer) -> None:
    server.otherwise = 30.0
    async with minwatt.AsyncClient(server.address) as client:
        asking = asyncio.ensure_future(client.classify(["a"]))
        await server.arrivals.acquire()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.otherwise = 0.0
        assert await client.classify(["b"])
    assert [heard.texts for heard in server.heard] == [["a"], ["b"]]
