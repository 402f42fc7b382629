"""Statuses that are written, and the Events told with them, whatever becomes of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import EventNote
from scaler.kube.errors import ApiError, ConflictError, UnavailableError
from scaler.kube.permissions import Resource
from scaler.kube.status_moment import StatusMoment
from scaler.kube.status_writes import StatusWrites
from scaler.kube.store import Key, Object
from tests.scaler.kube.moments import AT_S, moment, policy_object

KEY = ("inference", "support-text")
RIVAL = Obstacle("OtherAutoscaler", "HorizontalPodAutoscaler busy scales Deployment support-text too")


class Server:
    """One policy: what the server has of it, and what the controller has to say of it."""

    def __init__(self) -> None:
        self.obj: Object = {**policy_object(), "status": None}
        self.moment: StatusMoment = moment()
        self.lost: list[ApiError] = []
        """The answers to the next writes, which are done."""
        self.told: list[str] = []
        self.writes = StatusWrites(self, self, self.note, lambda: self.moment.at_s)

    def moments(self) -> Mapping[Key, tuple[Object, StatusMoment]]:
        return {KEY: (self.obj, self.moment)}

    def wrote(self, obj: Object) -> None: ...

    def note(self, _: Object, event: EventNote) -> None:
        self.told.append(event.reason)

    async def replace(self, _resource: Resource, _namespace: str, _name: str, body: Object) -> Object:
        self.obj = {**self.obj, "status": body["status"]}
        if self.lost:
            raise self.lost.pop()
        return self.obj

    def rounds(self, *moments: StatusMoment) -> list[str]:
        """What is told meanwhile."""
        before = len(self.told)
        for self.moment in moments:
            asyncio.run(self.writes.round())
        return self.told[before:]


def blocked(**changes: Any) -> StatusMoment:
    return moment(obstacle=RIVAL, **changes)


@pytest.mark.parametrize("lost", [UnavailableError("no answer in time"), ConflictError("stale", 409)])
def test_what_a_write_told_whose_answer_was_lost_is_told_all_the_same(lost: ApiError) -> None:
    server = Server()
    server.rounds(moment())
    server.lost.append(lost)
    assert server.rounds(blocked(at_s=AT_S + 1), blocked(at_s=AT_S + 2)) == ["OtherAutoscaler"]
    assert server.rounds(blocked(at_s=AT_S + 3), blocked(at_s=AT_S + 400)) == [], "once"
    assert server.rounds(moment(at_s=AT_S + 500)) == ["Ready"]


def test_a_controller_that_begins_tells_no_old_news() -> None:
    server = Server()
    server.rounds(blocked())
    server.writes = StatusWrites(server, server, server.note, lambda: AT_S)
    assert server.rounds(blocked(at_s=AT_S + 1), blocked(at_s=AT_S + 400)) == []


def test_another_policy_of_the_name_begins_anew() -> None:
    server = Server()
    server.rounds(blocked())
    server.obj = {**policy_object(uid="u2"), "status": None}
    assert server.rounds(moment(at_s=AT_S + 1)) == []


class Others(Server):
    """Three policies, of which one can never be written: a webhook of its namespace answers with an error."""

    names = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def moments(self) -> Mapping[Key, tuple[Object, StatusMoment]]:
        return {("inference", name): (self.obj, self.moment) for name in self.names}

    async def replace(self, _resource: Resource, _namespace: str, name: str, body: Object) -> Object:
        if name == "b":
            raise UnavailableError("failed calling webhook", 500)
        self.written.append(name)
        return {**self.obj, "status": body["status"]}


def test_one_that_always_fails_as_if_the_server_were_away_keeps_no_other_waiting() -> None:
    server = Others()
    server.rounds(moment(), moment(), moment(), moment())
    assert server.written == ["a", "c", "a", "c", "a", "c", "a"]
