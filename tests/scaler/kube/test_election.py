"""One acts at a time: several candidates, one Lease, clocks that are stepped by hand, a server that fails."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.kube.election import Election
from scaler.kube.errors import ApiError, ConflictError, DeposedError, NotFoundError, UnavailableError
from scaler.kube.lease import LeaseRules
from scaler.kube.permissions import LEASES, Resource

RULES = LeaseRules()


@dataclass
class LeaseServer:
    """One Lease with the server's preconditions; `away`: whom nobody answers."""

    lease: dict[str, Any] | None = None
    version: int = 0
    away: set[str] = field(default_factory=set)
    renewals: list[tuple[str, float]] = field(default_factory=list)

    def seen_by(self, name: str) -> _Door:
        return _Door(self, name)


@dataclass
class _Door:
    server: LeaseServer
    name: str

    async def get(self, resource: Resource, namespace: str, name: str) -> Any:
        self._reach()
        if self.server.lease is None:
            raise NotFoundError("no lease", 404)
        return self.server.lease

    async def create(self, resource: Resource, namespace: str, body: Any) -> Any:
        self._reach()
        if self.server.lease is not None:
            raise ConflictError("already exists", 409)
        return self._store(body)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Any) -> Any:
        self._reach()
        if self.server.lease is None or body["metadata"]["resourceVersion"] != str(self.server.version):
            raise ConflictError("modified", 409)
        return self._store(body)

    def _reach(self) -> None:
        if self.name in self.server.away:
            raise UnavailableError("connection refused")

    def _store(self, body: Any) -> Any:
        for time in ("renewTime", "acquireTime"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["spec"][time])
        self.server.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.server.version)}
        self.server.lease = {**body, "metadata": metadata}
        return self.server.lease


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def candidate(server: LeaseServer, name: str, clock: Clock) -> Election:
    # Wall clocks that are an hour apart: nobody compares them.
    skew_s = 3600.0 * (ord(name[-1]) - ord("a"))
    return Election(
        server.seen_by(name), "ns", "scaler", name, rules=RULES, clock=clock, unix_s=lambda: 1.8e9 + skew_s
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # who tries
        st.floats(0.0, 6.0),  # time that passes before
        st.sampled_from(["", "", "", "cut", "mend", "leave"]),
    ),
    max_size=120,
)


@settings(max_examples=200)
@given(STEPS)
def test_no_two_may_act_at_once_whatever_fails(steps: list[tuple[str, float, str]]) -> None:
    async def play() -> None:
        clock, server = Clock(), LeaseServer()
        candidates = {name: candidate(server, name, clock) for name in "abc"}
        terms: dict[int, str] = {}
        for name, passed_s, what in steps:
            clock.now_s += passed_s
            if what == "cut":
                server.away.add(name)
            if what == "mend":
                server.away.discard(name)
            if what == "leave":
                await candidates[name].release()
            else:
                await candidates[name].attempt()
            acting = [one for one in candidates.values() if one.may_act]
            assert len(acting) <= 1
            for one in acting:
                assert one.term is not None
                # A term is one holder's for ever: its number fences what it wrote.
                assert terms.setdefault(one.term, one.identity) == one.identity
            for one in candidates.values():
                if not one.may_act:
                    with pytest.raises(DeposedError):
                        one.check()

    asyncio.run(play())


async def test_a_leader_that_is_cut_off_may_not_act_before_another_may() -> None:
    clock, server = Clock(), LeaseServer()
    one, other = candidate(server, "a", clock), candidate(server, "b", clock)
    await one.attempt()
    await other.attempt()
    assert (one.may_act, other.may_act) == (True, False)
    server.away.add("a")
    clock.now_s += RULES.renew_deadline_s
    await one.attempt()
    assert not one.may_act
    await other.attempt()
    assert not other.may_act  # the gap in which a write that was let through ends
    clock.now_s += RULES.duration_s - RULES.renew_deadline_s
    await other.attempt()
    assert (other.may_act, other.term) == (True, 1)
    server.away.clear()
    await one.attempt()
    assert one.term is None
    assert one.holder == "b"


async def test_a_lapse_that_nobody_used_is_the_same_term_again() -> None:
    """Five minutes without an API server: the fleet is watched on, and acted on again afterwards."""
    clock, server = Clock(), LeaseServer()
    one = candidate(server, "a", clock)
    await one.attempt()
    server.away.add("a")
    for _ in range(150):
        clock.now_s += 2.0
        await one.attempt()
        assert not one.may_act or clock.now_s < 1010.0
        assert one.term == 0
    assert isinstance(one.problem, ApiError)
    server.away.clear()
    await one.attempt()
    assert (one.may_act, one.term, one.problem) == (True, 0, None)


async def test_a_lapse_ends_the_term_when_nobody_can_tell_for_too_long() -> None:
    clock, server = Clock(), LeaseServer()
    one = candidate(server, "a", clock)
    await one.attempt()
    server.away.add("a")
    clock.now_s += 601.0
    assert one.term is None


async def test_a_lease_that_was_let_go_is_taken_at_once() -> None:
    clock, server = Clock(), LeaseServer()
    one, other = candidate(server, "a", clock), candidate(server, "b", clock)
    await one.attempt()
    await other.attempt()
    await one.release()
    assert not one.may_act
    assert server.lease is not None
    assert "holderIdentity" not in server.lease["spec"]
    await other.attempt()
    assert (other.may_act, other.term) == (True, 1)


async def test_a_lease_that_somebody_deletes_is_not_up_for_grabs() -> None:
    clock, server = Clock(), LeaseServer()
    one, other = candidate(server, "a", clock), candidate(server, "b", clock)
    await one.attempt()
    await other.attempt()
    server.lease = None
    await other.attempt()
    assert server.lease is None
    await one.attempt()
    assert (one.may_act, one.term) == (True, 1)


async def test_a_renewal_that_was_cut_short_is_let_go_all_the_same() -> None:
    clock, server = Clock(), LeaseServer()
    one = candidate(server, "a", clock)
    await one.attempt()
    assert server.lease is not None
    await server.seen_by("a").replace(LEASES, "ns", "scaler", server.lease)  # done, and never heard of
    await one.release()
    assert "holderIdentity" not in server.lease["spec"]


async def test_of_two_who_create_it_one_leads() -> None:
    clock, server = Clock(), LeaseServer()
    one, other = candidate(server, "a", clock), candidate(server, "b", clock)
    await asyncio.gather(one.attempt(), other.attempt())
    assert one.may_act != other.may_act
