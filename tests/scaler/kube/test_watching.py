"""List and watch: whatever breaks, the store ends as the server has it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.api import Listed, Selection
from scaler.kube.errors import (
    ApiError,
    DeniedError,
    GoneError,
    ThrottledError,
    UnavailableError,
    from_answer,
    from_event,
)
from scaler.kube.permissions import PODS
from scaler.kube.store import Store
from scaler.kube.watches import Watches
from scaler.kube.watching import Source, Waits, Watching
from tests.eventually import happens


def thing(name: str, version: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version), "managedFields": [1]}
    }


CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30)


@given(CHANGES, st.integers(0, 30))
def test_a_list_and_the_events_since_are_the_server_s_objects(
    changes: list[tuple[str, bool]], listed_after: int
) -> None:
    truth: dict[str, dict[str, Any]] = {}
    store = Store()
    store.listed([], "0")
    for version, (name, there) in enumerate(changes, 1):
        known = name in truth
        if there:
            truth[name] = thing(name, version)
        else:
            truth.pop(name, None)
        if version == listed_after:
            store.listed(truth.values(), str(version))
        elif version > listed_after and (known or there):
            kind = ("MODIFIED" if known else "ADDED") if there else "DELETED"
            assert store.happened({"type": kind, "object": truth.get(name, thing(name, version))})
            assert store.version == str(version)
    if listed_after <= len(changes):
        versions = {name: one["metadata"]["resourceVersion"] for (_, name), one in store.items.items()}
        assert versions == {name: one["metadata"]["resourceVersion"] for name, one in truth.items()}


@given(CHANGES)
def test_what_a_list_does_not_name_is_gone(changes: list[tuple[str, bool]]) -> None:
    store = Store()
    for version, (name, _) in enumerate(changes):
        store.happened({"type": "ADDED", "object": thing(name, version)})
    store.listed([thing("only", 99)], "99")
    assert list(store.items) == [("ns", "only")]
    assert "managedFields" not in store.items["ns", "only"]["metadata"]
    assert not store.listed([thing("only", 99)], "100")


def test_an_answer_of_our_own_is_taken_if_it_is_newer() -> None:
    store = Store()
    store.listed([thing("a", 9)], "9")
    store.accept(thing("a", 10))
    store.accept(thing("a", 8))
    store.accept(thing("gone", 11))
    assert [one["metadata"]["resourceVersion"] for one in store.items.values()] == ["10"]


def test_a_store_is_deaf_from_when_the_watch_was_lost() -> None:
    store = Store()
    assert store.deaf_for_s(5.0) == float("inf")
    store.listed([], "1")
    store.heard()
    assert store.deaf_for_s(5.0) == 0.0
    store.lost(7.0, UnavailableError("away"))
    store.lost(9.0, UnavailableError("away"))
    assert store.deaf_for_s(10.0) == 3.0


@dataclass
class ScriptedServer(Source):
    """What each list and each watch answers; a watch without a script hangs."""

    lists: list[list[dict[str, Any]] | ApiError]
    watches: list[list[dict[str, Any] | ApiError]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def list_all(self, selection: Selection) -> Listed:
        answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        self.asked.append("list")
        if isinstance(answer, ApiError):
            raise answer
        return Listed(tuple(answer), f"{10 * self.asked.count('list')}")

    async def watch(self, selection: Selection, version: str, limit_s: int) -> AsyncGenerator[Any, None]:
        self.asked.append(version)
        yield {}
        if not self.watches:
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            if isinstance(event, ApiError):
                raise event
            yield event


class Steps:
    """A clock, and sleeps that only move it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        really = asyncio.sleep

        async def sleep(delay: float, *rest: object) -> None:
            self.slept.append(delay)
            self.now_s += delay
            await really(0)

        monkeypatch.setattr("scaler.kube.watching.asyncio.sleep", sleep)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


async def watched(server: ScriptedServer, steps: Steps, until: Callable[[Watching], bool]) -> Watching:
    watching = Watching(server, Selection(PODS, "ns"), clock=steps, rng=random.Random(1))
    task = asyncio.create_task(watching.run())
    for _ in range(500):
        if until(watching):
            break
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert until(watching)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return watching


async def test_a_watch_that_breaks_goes_on_from_the_last_version_heard(steps: Steps) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "17"}}}
    server = ScriptedServer([[thing("a", 3)]], [[bookmark, UnavailableError("reset")]])
    await watched(server, steps, lambda one: len(server.asked) == 3)
    assert server.asked == ["list", "10", "17"]


@pytest.mark.parametrize("gone", [GoneError("too old", 410), UnavailableError("storage feature", 500)])
async def test_a_version_that_is_too_old_is_listed_anew(steps: Steps, gone: ApiError) -> None:
    server = ScriptedServer([[thing("a", 3)], [thing("b", 12)]], [[gone]])
    watching = await watched(server, steps, lambda one: ("ns", "b") in one.store.items)
    assert list(watching.store.items) == [("ns", "b")]


async def test_a_first_look_that_is_refused_ends_the_wait_and_says_why(steps: Steps) -> None:
    server = ScriptedServer([DeniedError("pods is forbidden", 403)])
    watching = await watched(server, steps, lambda one: one.store.failure is not None)
    await watching.first_look()
    assert not watching.store.synced
    assert min(steps.slept) >= 15.0  # a role comes by a person's hand


async def test_who_waits_for_a_first_look_of_a_watch_that_is_let_go_waits_no_longer() -> None:
    """A target's selector may change before the pods of the first one were listed."""

    class Hanging(ScriptedServer):
        async def list_all(self, selection: Selection) -> Listed:
            await asyncio.Event().wait()
            raise AssertionError

    watches, selection = Watches(Hanging([[]]), lambda: 0.0, random.Random(1)), Selection(PODS, "ns")
    waiting = asyncio.create_task(watches.hold(selection, ignored).first_look())
    await asyncio.sleep(0)
    assert not waiting.done()
    watches.let_go(selection, ignored)
    await asyncio.wait_for(waiting, 5)
    await watches.close()


def ignored() -> None: ...


async def test_a_server_that_ends_each_watch_at_once_is_not_asked_in_a_loop(steps: Steps) -> None:
    server = ScriptedServer([[]], [[] for _ in range(8)])
    await watched(server, steps, lambda one: len(server.asked) >= 8)
    assert sum(steps.slept) > 8.0


def test_waits_grow_to_a_bound_and_honour_what_the_server_asks_for() -> None:
    waits = Waits(random.Random(3))
    slept = [waits.after(UnavailableError("away")) for _ in range(20)]
    assert slept[0] < 0.5
    assert max(slept) <= 30.0
    assert min(slept[10:]) >= 15.0
    waits.well()
    assert waits.after(UnavailableError("away")) < 0.5
    assert waits.after(ThrottledError("later", 45.0)) == 45.0
    assert waits.after(UnavailableError("starting", 503, 45.0)) == 45.0


async def test_a_watch_is_shared_and_ends_with_the_last_who_holds_it() -> None:
    server = ScriptedServer([[thing("a", 1)]])
    watches = Watches(server, lambda: 0.0, random.Random(1))
    told: list[str] = []
    one, two = (lambda: told.append("one")), (lambda: told.append("two"))
    selection = Selection(PODS, "ns")
    first, second = watches.hold(selection, one), watches.hold(selection, two)
    assert first is second
    await happens(lambda: {"one", "two"} <= set(told))
    watches.let_go(selection, one)
    watches.let_go(selection, two)
    assert watches.hold(selection, one) is not first
    await watches.close()


def test_errors_say_what_the_server_said() -> None:
    said = b'{"kind":"Status","message":"pods is forbidden: User \\"x\\" cannot list","code":403}'
    assert str(from_answer(403, said)).startswith("pods is forbidden")
    assert isinstance(from_answer(503, b"<html>down</html>"), UnavailableError)
    assert isinstance(from_answer(504, b""), UnavailableError)
    assert str(from_answer(504, b"")) == "HTTP 504"
    throttled = from_answer(429, b"{}", "7")
    assert isinstance(throttled, ThrottledError)
    assert throttled.retry_after_s == 7.0
    assert from_answer(503, b"{}", "30").retry_after_s == 30.0
    assert from_answer(503, b"{}").retry_after_s == 0.0
    for nonsense in ("Wed, 21 Oct 2026 07:28:00 GMT", "nan", "inf"):
        assert from_answer(503, b"{}", nonsense).retry_after_s == 1.0
    assert from_answer(429, b"{}").retry_after_s == 1.0
    assert isinstance(from_event({"code": 410, "message": "too old resource version: 1 (4)"}), GoneError)
