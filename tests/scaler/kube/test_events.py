"""Events reach the server though it is away, each once, and none is tried for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from scaler.kube.decision_events import EventNote
from scaler.kube.errors import (
    ApiError,
    ConflictError,
    DeniedError,
    DeposedError,
    ThrottledError,
    UnavailableError,
)
from scaler.kube.events import Events
from scaler.kube.permissions import Resource
from tests.kube_api.jumping_loop import run_jumping
from tests.scaler.kube.made_objects import policy_object

POLICY = policy_object()


@dataclass
class EventServer:
    """`fails` once each; `answers_lost`: so many creations are done, and nobody hears of it; `never`: a note
    that it fails on."""

    fails: list[ApiError] = field(default_factory=list)
    answers_lost: int = 0
    never: str = ""
    tries: int = 0
    events: dict[str, Any] = field(default_factory=dict)

    async def create(self, resource: Resource, namespace: str, body: Any) -> Any:
        self.tries += 1
        if self.fails:
            raise self.fails.pop(0)
        if body["note"] == self.never:
            raise UnavailableError("failed calling webhook", 500)
        if body["metadata"]["name"] in self.events:
            raise ConflictError("already exists", 409)
        self.events[body["metadata"]["name"]] = body
        if self.answers_lost:
            self.answers_lost -= 1
            raise UnavailableError("no answer in time")
        return body

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Any) -> Any:
        self.tries += 1
        if self.fails:
            raise self.fails.pop(0)
        self.events[name] = {**self.events[name], **patch}
        return self.events[name]

    @property
    def notes(self) -> list[tuple[str, int]]:
        """Each with how often it happened."""
        return [(one["note"], one.get("series", {}).get("count", 1)) for one in self.events.values()]


def note(words: str = "an HPA scales it too") -> EventNote:
    return EventNote("Warning", "OtherAutoscaler", "Reconcile", words)


def play(server: EventServer, *noted: str, apart_s: float = 0.0, then_s: float = 60.0) -> None:
    """Each is noted; then time passes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        events = Events(server, "one", unix_s=lambda: 1.8e9 + loop.time())
        running = asyncio.create_task(events.run())
        for words in noted:
            events.note(POLICY, note(words))
            await asyncio.sleep(apart_s)
        await asyncio.sleep(then_s)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_jumping(main)


def test_what_a_server_that_is_away_did_not_take_is_written_when_it_is_back() -> None:
    away = [UnavailableError("500", 500), ThrottledError("later", 7.0), DeposedError("not the leader")]
    server = EventServer([*away])
    play(server, "first", "second")
    assert sorted(server.notes) == [("first", 1), ("second", 1)]
    assert server.tries == len(away) + 2


def test_one_whose_answer_was_lost_is_there_once_and_counted_on() -> None:
    server = EventServer(answers_lost=1)
    play(server, "first", "first", apart_s=10.0)
    assert server.notes == [("first", 2)]


def test_what_is_refused_is_told_anew_when_it_happens_again() -> None:
    server = EventServer([DeniedError("forbidden", 403)])
    play(server, "first", "first", apart_s=10.0)
    assert server.notes == [("first", 1)]


def test_one_that_is_never_written_holds_up_no_other() -> None:
    server = EventServer(never="first")
    play(server, "first", "second", "third", apart_s=1.0)
    assert server.notes == [("second", 1), ("third", 1)]


def test_nothing_is_tried_for_ever() -> None:
    server = EventServer([UnavailableError("refused") for _ in range(200)])
    play(server, "first", then_s=1200.0)
    tried = server.tries
    assert 10 < tried < 60
    assert server.notes == []
    server.fails.clear()
    play(server, "first")
    assert server.notes == [("first", 1)]
