"""What a fleet on Kubernetes goes through, with the real controller on a loop whose time jumps.

Each scenario ends with the laws that hold of any: every write named the version that it was made of, only the
leader wrote, and no write asked for fewer replicas than the policy's minimum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kube_world import NAME, NAMESPACE, World, deployment, world
from tests.kube_api.answers import Refusal
from tests.kube_api.jumping_loop import run_jumping
from tests.kube_api.laws import assert_laws

QUIET_RPS, BUSY_RPS = 80.0, 500.0  # of about 190 that a replica can answer

Story = Callable[[World], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    def run(story: Story) -> None:
        async def main() -> None:
            async with world(tmp_path, monkeypatch) as made:
                await story(made)
                assert_laws(made.api.log, least=1)

        run_jumping(main)

    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_installed_beside_a_fleet_that_runs_it_moves_nothing_and_says_what_it_sees(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=2)
        fleet.load_rps = lambda _: 2 * QUIET_RPS
        await one.until(lambda: one.ready() == 2)
        copy = one.controller()
        await one.until(lambda: one.condition("Ready") == ("True", "SloMet"))
        assert one.status()["replicas"]["ready"] == 2
        assert one.scaled() == []
        one.api.delete("powerpolicies", NAMESPACE, NAME)
        await one.seconds(20)
        assert one.replicas() == 2
        await copy.stop()

    play(story)


def test_up_for_a_crowd_as_far_as_there_are_nodes(play: Play) -> None:
    async def story(one: World) -> None:
        one.api.cluster.room = 3
        fleet = one.add(replicas=1)
        fleet.load_rps = lambda _: QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        fleet.load_rps = lambda _: BUSY_RPS
        await one.until(lambda: one.ready() == 3)
        await one.seconds(90)
        scaled = one.scaled()
        assert scaled == sorted(scaled)
        assert max(scaled) <= 6  # pods that wait for a node count: there are not more and more of them
        assert one.status()["replicas"]["unschedulable"] == max(scaled) - 3
        assert {"ScaledUp", "PodsUnschedulable"} <= set(one.told())

    play(story)


def test_down_when_the_load_is_gone_with_each_pod_drained(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=4)
        fleet.load_rps = lambda at_s: 5 * QUIET_RPS if at_s < 30 else QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        begun, drained = {pod["metadata"]["name"] for pod in one.pods()}, set()
        while len(one.pods()) > 1:
            drained |= {pod["metadata"]["name"] for pod in one.pods() if is_terminating(pod)}
            begun |= {pod["metadata"]["name"] for pod in one.pods()}
            await one.seconds(1)
        await one.until(lambda: one.status()["replicas"]["terminating"] == 0)
        assert drained == begun - {one.pods()[0]["metadata"]["name"]}  # none vanished without its grace
        assert one.scaled()[-1] == 1
        assert fleet.least_ready(10.0) >= 1
        assert fleet.refused == 0
        assert "ScaledDown" in one.told()

    play(story)


def is_terminating(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def test_an_api_outage_of_five_minutes_moves_nothing_and_is_made_up_for(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=3)
        fleet.load_rps = lambda _: 5 * QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        await one.seconds(20)
        ready, begun_s, writes, scaled = one.ready(), now_s(), len(one.api.writes()), len(one.scaled())
        await one.api.close()
        fleet.load_rps = lambda at_s: QUIET_RPS if at_s < begun_s + 150 else BUSY_RPS
        await one.seconds(300)
        assert len(one.api.writes()) == writes
        assert fleet.least_ready(begun_s) == ready
        await one.api.open()
        await one.seconds(60)
        assert min(one.scaled()[scaled:], default=ready) >= ready
        assert fleet.refused == 0
        assert one.condition("Ready") == ("True", "SloMet")

    play(story)


def test_a_policy_edited_to_nonsense_and_back(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=1)
        fleet.load_rps = lambda _: QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        with pytest.raises(Refusal) as refused:
            one.api.patch("powerpolicies", NAMESPACE, NAME, {"spec": {"replicas": {"min": 7}}})
        assert refused.value.reason == "Invalid"
        one.api.patch("powerpolicies", NAMESPACE, NAME, {"spec": {"model": "unheard-of"}})
        await one.until(lambda: one.condition("Ready")[0] == "False")
        assert one.status()["generationInForce"] == 1
        fleet.load_rps = lambda _: BUSY_RPS
        await one.until(lambda: one.ready() >= 3)  # by the last good one
        one.api.patch("powerpolicies", NAMESPACE, NAME, {"spec": {"model": "tiny", "replicas": {"min": 2}}})
        await one.until(lambda: one.condition("Ready")[0] == "True")
        assert one.status()["generationInForce"] == 3
        fleet.load_rps = lambda _: QUIET_RPS / 8
        await one.until(lambda: one.replicas() == 2)
        await one.seconds(60)
        assert one.replicas() == 2

    play(story)


def test_a_rollout_during_a_flash_crowd_loses_no_capacity(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=2)
        fleet.load_rps = lambda _: 2 * QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        await one.seconds(10)
        begun_s, before = now_s(), one.ready()
        one.api.cluster.ready_s = 20.0  # a model takes its time to load
        rolled = deployment(before, image="minwatt-service:2")
        del rolled["spec"]["replicas"]
        one.api.apply(rolled)
        await one.seconds(5)
        fleet.load_rps = lambda _: BUSY_RPS
        await one.until(lambda: one.replicas() > before)
        during = one.scaled()
        await one.until(lambda: _all_of(one, "minwatt-service:2") and one.ready() == one.replicas())
        assert during == sorted(during)  # nothing was taken while old and new stood side by side
        assert fleet.least_ready(begun_s) >= before
        await one.until(lambda: one.condition("Ready") == ("True", "SloMet"))

    play(story)


def _all_of(one: World, image: str) -> bool:
    return all(pod["spec"]["containers"][0]["image"] == image for pod in one.pods())


@pytest.mark.parametrize(("killed", "within_s"), [(True, 40.0), (False, 10.0)], ids=["killed", "stopped"])
def test_the_next_leader_takes_over_and_moves_nothing_by_that(
    play: Play, killed: bool, within_s: float
) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=2)
        fleet.load_rps = lambda _: 2 * QUIET_RPS
        first = one.controller("a")
        await one.until(lambda: one.condition("Ready")[0] == "True")
        one.controller("b")
        await one.seconds(10)
        before = one.scaled(), one.replicas()
        await (first.kill() if killed else first.stop())
        await one.until(lambda: one.status()["fence"]["transitions"] == 1, within_s)
        await one.seconds(40)
        assert (one.scaled(), one.replicas()) == before
        fleet.load_rps = lambda _: BUSY_RPS
        await one.until(lambda: one.ready() >= 3)
        assert {each.user for each in one.api.writes() if each.resource.endswith("/scale")} == {
            "system:serviceaccount:minwatt-system:minwatt-b"
        }

    play(story)


def test_of_two_that_start_at_once_one_leads(play: Play) -> None:
    async def story(one: World) -> None:
        one.add(replicas=2)
        # Both are to find no lease before either can make one.
        held = [one.api.faults.hold(verbs="get", resource="leases", by=f"minwatt-{name}") for name in "ab"]
        copies = [one.controller("a"), one.controller("b")]
        await one.until(lambda: all(each.arrived.is_set() for each in held))
        for each in held:
            each.go.set()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        await one.seconds(30)
        tried = [each.code for each in one.api.log if each.verb == "create" and "leases" in each.resource]
        assert sorted(tried) == [201, 409]
        assert sum(any("leading as" in line for line in copy.said) for copy in copies) == 1

    play(story)


def test_without_any_controller_for_five_minutes_replicas_go_on_as_they_were(play: Play) -> None:
    async def story(one: World) -> None:
        fleet = one.add(replicas=3)
        fleet.load_rps = lambda _: 4 * QUIET_RPS
        first = one.controller("a")
        await one.until(lambda: one.condition("Ready")[0] == "True")
        await one.seconds(30)
        await first.kill()
        gone_s, ready, point, scaled = now_s(), one.ready(), fleet.model.point, one.scaled()
        await one.seconds(300)
        assert (one.ready(), fleet.model.point) == (ready, point)
        second = one.controller("b")
        await one.until(lambda: second.said and "leading as" in second.said[-1])
        await one.seconds(40)
        assert one.scaled() == scaled  # nor does it move anything for having been away
        assert fleet.least_ready(gone_s) == ready
        assert fleet.refused == 0

    play(story)


def test_a_budget_is_kept_in_a_crowd_and_through_an_outage(play: Play) -> None:
    budget_w = 12.0

    async def story(one: World) -> None:
        fleet = one.add(replicas=1, power={"budget": f"{budget_w:g}W"})
        fleet.load_rps = lambda _: QUIET_RPS
        one.controller()
        await one.until(lambda: one.condition("Ready")[0] == "True")
        fleet.load_rps = lambda _: BUSY_RPS
        await one.seconds(30)
        await one.api.close()
        await one.seconds(60)
        await one.api.open()
        await one.seconds(30)
        assert 1 < one.replicas() < 5  # as many as this load gets without a budget
        assert max(second.watts for second in fleet.model.history) <= budget_w

    play(story)
