"""A decision becomes a scale: once, on what it was decided on, and never by one who may not act."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.bus import FleetView
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import EventNote
from scaler.kube.errors import (
    ApiError,
    ConflictError,
    DeniedError,
    DeposedError,
    ThrottledError,
    UnavailableError,
)
from scaler.kube.facts import Facts
from scaler.kube.fleet import FleetRules, KubeFleet
from scaler.kube.gated_bus import GatedBus
from scaler.kube.permissions import Resource
from scaler.kube.pods import count_pods
from scaler.kube.target import Scale, TargetKind
from scaler.operating_point import OperatingPoint
from tests.scaler.kube.made_objects import TARGET, pod, pods, scale
from tests.scaler.kube.moments import POINT
from tests.scaler.made_up import signals

KIND = TargetKind(
    Resource("apps", "v1", "deployments"), Resource("apps", "v1", "deployments/scale"), "Deployment"
)
SEEN = signals(ready=9)
VARIANTS = ("fp32", "int8")


def decided(current: int, desired: int) -> Decision:
    action = Action.KEEP if current == desired else Action.UP if desired > current else Action.DOWN
    reasons = (Reason(ReasonCode.LOAD, "what the load needs"),)
    return Decision(0.0, action, current, desired, None, None, None, None, "profile", reasons)


@dataclass
class MadeSight:
    facts_now: Facts
    key: Any = TARGET
    kind: TargetKind | None = KIND
    obstacle: Obstacle | None = None
    certain: bool = True

    @property
    def scale(self) -> Scale:
        return self.facts_now.scale

    def facts(self) -> Facts:
        return self.facts_now

    def doubt(self) -> None:
        self.certain = False

    def wrote(self, scale: Scale) -> None:
        self.facts_now = replace(self.facts_now, scale=scale)


@dataclass
class ScaleServer:
    """One target's scale with its preconditions. `fails` is raised before anything is done, once each."""

    replicas: int = 3
    version: int = 10
    fails: list[ApiError] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    fence: Any = None

    async def get(self, resource: Resource, namespace: str, name: str, *, target: bool = False) -> Any:
        return self._object()

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Any, *, target: bool = False
    ) -> Any:
        if self.fence is not None:
            self.fence()
        if self.fails:
            raise self.fails.pop(0)
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError("modified", 409)
        self.replicas = body["spec"]["replicas"]
        self.writes.append(self.replicas)
        self.version += 1
        return self._object()

    def _object(self) -> Any:
        metadata = {"resourceVersion": str(self.version), "uid": "uid-1"}
        return {
            "metadata": metadata,
            "spec": {"replicas": self.replicas},
            "status": {"selector": "app=support-text"},
        }


@dataclass
class Case:
    server: ScaleServer = field(default_factory=ScaleServer)
    rules: FleetRules = field(default_factory=lambda: FleetRules(min_replicas=1))
    now_s: float = 1000.0
    unix_s: float = 1_795_313_000.0
    notes: list[EventNote] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts = count_pods(pods(ready=self.server.replicas))
        facts = Facts(scale(self.server.replicas, str(self.server.version)), counts, not_ready_first=True)
        self.sight = MadeSight(facts)
        self.fleet = KubeFleet(
            self.sight,
            self.server,
            self.rules,
            self.notes.append,
            clock=lambda: self.now_s,
            unix_s=lambda: self.unix_s,
        )

    async def decide(self, desired: int, beats: int = 1) -> None:
        decision = decided(self.fleet.running(SEEN), desired)
        self.fleet.decided(decision, self.unix_s)
        for _ in range(beats):
            await self.fleet.scale_to(desired, SEEN)
            self.now_s += 1.0


async def test_a_decision_is_written_once_and_told_once() -> None:
    case = Case()
    await case.decide(5, beats=5)
    assert case.server.writes == [5]
    assert [one.reason for one in case.notes] == ["ScaledUp"]
    assert case.fleet.running(SEEN) == 5


async def test_what_somebody_else_wrote_meanwhile_is_left_until_the_next_decision() -> None:
    case = Case()
    case.server.replicas, case.server.version = 8, 11  # kubectl scale
    await case.decide(5, beats=3)
    assert case.server.writes == []
    assert case.fleet.running(SEEN) == 8
    await case.decide(5)
    assert case.server.writes == [5]


async def test_a_conflict_of_the_status_alone_is_no_news() -> None:
    case = Case()
    case.server.version = 11
    await case.decide(5, beats=2)
    assert case.server.writes == [5]


@pytest.mark.parametrize("failure", [UnavailableError("no answer in time"), DeposedError("not the leader")])
async def test_after_a_write_whose_end_is_not_known_nothing_is_written_before_a_new_look(
    failure: ApiError,
) -> None:
    case = Case(ScaleServer(fails=[failure]))
    await case.decide(5, beats=4)
    assert case.server.writes == []
    assert not case.sight.certain
    case.sight.certain = True
    await case.fleet.scale_to(5, SEEN)
    assert case.server.writes == [5]


async def test_a_write_that_was_done_and_never_answered_is_told_all_the_same() -> None:
    case = Case(ScaleServer(fails=[UnavailableError("connection reset")]))
    await case.decide(5)
    case.server.replicas, case.server.version = 5, 11  # it was done
    case.sight.wrote(scale(5, "11"))
    case.sight.certain = True
    await case.fleet.scale_to(5, SEEN)
    assert [one.reason for one in case.notes] == ["ScaledUp"]
    assert case.server.writes == []


@pytest.mark.parametrize("failure", [ThrottledError("later", 7.0), UnavailableError("starting", 503, 7.0)])
async def test_a_server_that_asks_for_patience_gets_it(failure: ApiError) -> None:
    case = Case(ScaleServer(fails=[failure]))
    await case.decide(5)
    case.sight.certain = True
    case.now_s = 1006.9
    await case.fleet.scale_to(5, SEEN)
    assert case.server.writes == []
    case.now_s = 1007.1
    await case.fleet.scale_to(5, SEEN)
    assert case.server.writes == [5]


async def test_a_refusal_is_an_obstacle_that_names_verb_and_resource_until_a_write_succeeds() -> None:
    words = 'deployments.apps "x" is forbidden: cannot update resource "deployments/scale"'
    case = Case(ScaleServer(fails=[DeniedError(words, 403)]))
    await case.decide(5)
    assert case.fleet.obstacle == Obstacle("AccessDenied", words)
    case.sight.certain = True
    case.now_s += 30.0
    await case.fleet.scale_to(5, SEEN)
    assert case.fleet.obstacle is None
    assert case.server.writes == [5]


async def test_a_variant_that_is_only_wished_for_in_a_pause_is_told_when_replicas_are() -> None:
    case = Case()
    fp32, int8 = (replace(decided(3, 3), operating_point=replace(POINT, variant=one)) for one in VARIANTS)
    case.fleet.decided(fp32, 0.0)
    case.fleet.rules = FleetRules(1, paused=True)
    case.fleet.decided(int8, 1.0)
    assert case.notes == []
    case.fleet.rules = FleetRules(1)
    case.fleet.decided(int8, 2.0)
    assert [one.reason for one in case.notes] == ["VariantChanged"]


@pytest.mark.parametrize(
    "rules",
    [
        FleetRules(1, paused=True),
        FleetRules(1, external=True),
        FleetRules(1, obstacle=Obstacle("TargetClaimed", "the older PowerPolicy has it")),
    ],
)
async def test_nothing_is_moved_by_a_policy_that_is_paused_external_or_refused(rules: FleetRules) -> None:
    case = Case(rules=rules)
    await case.decide(5, beats=2)
    assert case.server.writes == []
    assert case.notes == []


async def test_an_autoscaler_on_the_target_is_not_fought() -> None:
    case = Case()
    case.sight.facts_now = replace(case.sight.facts_now, rival="HorizontalPodAutoscaler busy")
    await case.decide(5)
    assert case.server.writes == []
    assert case.fleet.obstacle is not None
    assert case.fleet.obstacle.reason == "OtherAutoscaler"
    case.fleet.rules = FleetRules(1, external=True)
    assert case.fleet.obstacle is None


async def test_where_autoscalers_are_not_seen_none_is_fought() -> None:
    case = Case()
    unseen = "HorizontalPodAutoscalers can't be read: forbidden"
    case.sight.facts_now = replace(case.sight.facts_now, rival_unseen=unseen)
    await case.decide(5, beats=3)
    assert case.server.writes == []
    assert case.fleet.obstacle is not None
    assert case.fleet.obstacle.reason == "AutoscalersUnseen"
    assert case.fleet.obstacle.message.startswith(unseen)
    case.fleet.rules = FleetRules(1, external=True)
    assert case.fleet.obstacle is None
    case.fleet.rules = FleetRules(1)
    case.sight.facts_now = replace(case.sight.facts_now, rival_unseen="")
    await case.decide(5)
    assert case.server.writes == [5]


@pytest.mark.parametrize(
    "failure", [UnavailableError("no answer in time"), ThrottledError("later", 1.0), ConflictError("x", 409)]
)
async def test_a_write_that_fails_for_half_a_minute_is_an_obstacle_until_it_succeeds(
    failure: ApiError,
) -> None:
    case = Case(ScaleServer(fails=[failure] * 200))
    shown_after_s = None
    for _ in range(40):
        await case.decide(5)
        case.sight.certain = True
        if case.fleet.obstacle is not None and shown_after_s is None:
            shown_after_s = case.now_s - 1000.0
    assert shown_after_s is not None
    assert 30.0 <= shown_after_s <= 33.0
    assert case.fleet.obstacle == Obstacle(
        "ScaleUnavailable", f"Deployment support-text can't be scaled: {failure}"
    )
    case.server.fails.clear()
    await case.decide(5)
    assert case.server.writes == [5]
    assert case.fleet.obstacle is None


async def test_a_write_that_fails_is_no_obstacle_once_nothing_is_to_be_written() -> None:
    case = Case(ScaleServer(fails=[UnavailableError("no answer in time")]))
    await case.decide(5)
    case.now_s += 60.0
    assert case.fleet.obstacle is not None  # the scale could not be read since either
    case.sight.certain = True
    await case.decide(3)
    assert case.fleet.obstacle is None


async def test_a_refusal_is_not_shown_for_long_where_nothing_is_to_be_written() -> None:
    case = Case(ScaleServer(fails=[DeniedError("forbidden", 403)]))
    await case.decide(5)
    assert case.fleet.obstacle is not None
    case.sight.certain = True
    for _ in range(120):
        await case.decide(3)
    assert case.fleet.obstacle is None


async def test_a_scale_down_that_is_held_is_said_once_and_done_when_it_may() -> None:
    case = Case()
    case.sight.facts_now = replace(case.sight.facts_now, rollout="1 of 3 pods are of an older revision")
    await case.decide(2, beats=3)
    assert case.server.writes == []
    assert [one.reason for one in case.notes] == ["RolloutInProgress"]
    case.sight.facts_now = replace(case.sight.facts_now, rollout="")
    await case.fleet.scale_to(2, SEEN)
    assert case.server.writes == [2]


async def test_a_fleet_of_which_few_have_joined_again_is_not_shrunk() -> None:
    case = Case()
    case.fleet.decided(decided(3, 2), case.unix_s)
    await case.fleet.scale_to(2, signals(ready=1))
    assert case.server.writes == []
    assert [one.reason for one in case.notes] == ["PodsNotReporting"]
    await case.fleet.scale_to(2, signals(ready=3))
    assert case.server.writes == [2]


async def test_pods_that_find_no_node_are_told_after_a_while_and_count_as_replicas() -> None:
    case = Case()
    counts = count_pods([pod("a"), pod("b", "unschedulable"), pod("c", "unschedulable")])
    case.sight.facts_now = replace(case.sight.facts_now, counts=counts)
    case.unix_s = 1795313284.0 + 30.0
    await case.decide(3, beats=2)
    assert case.notes == []
    case.unix_s += 40.0
    await case.decide(3, beats=3)
    assert [one.reason for one in case.notes] == ["PodsUnschedulable"]
    assert "2 pods find no node: 0/3 nodes" in case.notes[0].note
    assert case.fleet.running(SEEN) == 3


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), st.integers(1, 9)),
        st.tuples(st.just("beat"), st.just(0)),
        st.tuples(st.just("somebody"), st.integers(0, 9)),
        st.tuples(st.just("status"), st.just(0)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.sampled_from(["unavailable", "conflict", "denied", "throttled"]), st.just(0)),
        st.tuples(st.just("depose"), st.just(0)),
        st.tuples(st.just("elect"), st.just(0)),
        st.tuples(st.just("blind"), st.just(0)),
    ),
    max_size=60,
)
FAILURES = {
    "unavailable": UnavailableError("no answer"),
    "conflict": ConflictError("modified", 409),
    "denied": DeniedError("forbidden", 403),
    "throttled": ThrottledError("later", 1.0),
}


@given(HAPPENINGS, st.integers(1, 4))
def test_each_decision_is_written_once_at_most_on_what_it_was_decided_on(
    happenings: list[tuple[str, int]], least: int
) -> None:
    async def play() -> None:
        case = Case(rules=FleetRules(min_replicas=least))
        leads = [True]

        def fence() -> None:
            if not leads[0]:
                raise DeposedError("not the leader")

        case.server.fence = fence
        decision: Decision | None = None
        since_decision: list[int] = []
        for what, number in happenings:
            before, written = case.server.replicas, len(case.server.writes)
            if what == "decide":
                decision = decided(case.fleet.running(SEEN), max(least, number))
                case.fleet.decided(decision, case.unix_s)
                since_decision = []
            elif what == "somebody":
                case.server.replicas, case.server.version = number, case.server.version + 1
                before = number
            elif what == "status":
                case.server.version += 1
            elif what == "look":
                case.sight.wrote(scale(case.server.replicas, str(case.server.version)))
                case.sight.certain = True
            elif what in FAILURES:
                case.server.fails = [FAILURES[what]]
            elif what in {"depose", "elect"}:
                leads[0] = what == "elect"
            elif what == "blind":
                unseen = "" if case.sight.facts_now.unseen else "pods last seen 60 s ago"
                case.sight.facts_now = replace(case.sight.facts_now, unseen=unseen)
            elif decision is not None:
                await case.fleet.scale_to(decision.desired_replicas, SEEN)
            case.now_s += 1.0
            new = case.server.writes[written:]
            since_decision += new
            assert len(since_decision) <= 1
            for one in new:
                assert decision is not None
                assert leads[0]
                assert before == decision.current_replicas
                assert one == decision.desired_replicas
                assert one >= min(before, least)
                assert one > before or not case.sight.facts_now.unseen

    asyncio.run(play())


@dataclass
class HeardBus:
    published: list[int] = field(default_factory=list)

    async def publish(self, point: OperatingPoint) -> None:
        self.published.append(point.version)

    async def collect(self) -> FleetView:
        return FleetView.of(frozenset(), ())

    async def close(self) -> None: ...


async def test_a_bus_behind_a_closed_gate_says_the_newest_when_it_opens() -> None:
    opened = [False]
    heard = HeardBus()
    bus = GatedBus(heard, lambda: opened[0])
    for version in (1, 2, 3):
        await bus.publish(OperatingPoint(version, 8, 1024, 0.01, 0.1))
    await bus.collect()
    assert heard.published == []
    opened[0] = True
    await bus.collect()
    await bus.collect()
    await bus.publish(OperatingPoint(4, 8, 1024, 0.01, 0.1))
    assert heard.published == [3, 4]


async def test_what_was_not_said_is_no_news_after_something_newer_was() -> None:
    """A gate may open between a look and what is decided on it."""
    opened = [False]
    heard = HeardBus()
    bus = GatedBus(heard, lambda: opened[0])
    await bus.publish(OperatingPoint(1, 8, 1024, 0.01, 0.1))
    opened[0] = True
    await bus.publish(OperatingPoint(2, 8, 1024, 0.01, 0.1))
    await bus.collect()
    assert heard.published == [2]
