"""What the controller does while it can not see its pods, the API server, or part of what it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scaler.kube.rivals import TargetKey
from scaler.kube.rollout import rollout_of
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.stories import BUSY_RPS, FLEET, Play, ready, refused, role


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return lambda story: play(tmp_path, monkeypatch, story)


def test_pods_that_were_never_ready_are_waited_for_and_silent_ones_are_missed(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.cluster.ready_s = 120
        case.api.apply(workload(replicas=1), policy(telemetry={"staleAfter": "15s"}))
        async with case.control():
            await case.until(lambda: case.condition("Stale") == ("False", "Starting"), "said")
            assert case.condition("Ready") == ("False", "NoReplicaReady")
            for _ in range(100):
                await asyncio.sleep(1)
                assert case.replicas() == 1
            await case.until(lambda: ready(case), "ready")
            assert case.replicas() == 1
            case.api.apply(workload(replicas=0))
            await case.until(refused(case, "ScaledToZero"), "switched off by hand")
            await asyncio.sleep(60)
            case.api.apply(workload(replicas=1))
            await asyncio.sleep(100)
            assert case.replicas() == 1
            await case.until(lambda: ready(case), "ready again")
            case.hub.fleets[FLEET].silent = True
            silent_s = asyncio.get_running_loop().time()
            await case.until(lambda: case.replicas() == 6, "after staleAfter: replicas.max")
            assert asyncio.get_running_loop().time() - silent_s > 15
            assert case.condition("Stale")[0] == "True"

    stage(story)


def test_a_fleet_that_was_lost_while_no_controller_looked_is_missed(stage: Play) -> None:
    """The next controller never heard it: the status tells that there was something to hear."""

    async def story(case: Scenario) -> None:
        telemetry = {"staleAfter": "15s", "fallbackReplicas": 5}
        case.api.apply(workload(replicas=3), policy(telemetry=telemetry))
        async with case.control():
            await case.until(lambda: ready(case), "ready")
        case.api.cluster.ready_s = 1e6
        for pod in case.api.all_of("pods", NAMESPACE):
            case.api.delete("pods", NAMESPACE, pod["metadata"]["name"])
        async with case.control("two"):
            await case.until(lambda: case.replicas() == 5, "the fallback")
            await case.until(lambda: case.condition("Stale") == ("True", "FallbackReplicas"), "said")
            case.api.apply(workload(replicas=0))
            await case.until(refused(case, "ScaledToZero"), "switched off by hand")
            await case.until(lambda: case.condition("Stale") == ("False", "Starting"), "said")
        case.api.apply(workload(replicas=2))
        async with case.control("three"):
            await asyncio.sleep(120)
            assert case.replicas() == 2, "what was switched off starts anew"

    stage(story)


def test_pods_that_are_ready_and_never_heard_are_missed(stage: Play) -> None:
    """Of an unjoined fleet the kubelet alone knows that it answers: its load may be any."""

    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=1), policy(telemetry={"staleAfter": "15s", "fallbackReplicas": 4}))
        case.hub.fleet(FLEET)
        case.hub.fleets[FLEET].silent = True
        async with case.control():
            await case.until(lambda: case.replicas() == 4, "the fallback")
            await case.until(lambda: case.condition("Stale") == ("True", "FallbackReplicas"), "said")

    stage(story)


def test_an_api_outage_of_minutes_moves_nothing_and_loses_nothing(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(replicas={"min": 2, "max": 6}))
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            await case.api.close()
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            points = len(case.hub.fleets[FLEET].points)
            await asyncio.sleep(300)
            assert case.replicas() == 2
            assert len(case.hub.fleets[FLEET].points) <= points + 1  # within the fence's first seconds
            await case.api.open()
            await case.until(lambda: case.replicas() > 3, "scaled up afterwards")
            assert sum("leading as" in line for line in case.said) == 1
            assert case.status()["fence"]["transitions"] == 0

    stage(story)


def test_a_second_copy_takes_over_from_one_that_is_cut_off_which_writes_no_more(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(replicas={"min": 2, "max": 6}))
        async with case.control("one", **role(case)):
            await case.until(lambda: ready(case), "ready")
            async with case.control("two"):
                await asyncio.sleep(30)
                assert not any("two: leading" in line for line in case.said)
                case.hub.fleets[FLEET].rate_rps = BUSY_RPS
                case.api.faults.drop(times=None, by="minwatt")
                cut_at = len(case.api.writes(by="minwatt"))
                await case.until(lambda: any("two: leading" in line for line in case.said), "took over")
                await case.until(lambda: case.status()["fence"]["transitions"] == 1, "its term")
                await case.until(lambda: case.replicas() > 3, "acts")
                case.api.faults.clear()
                await case.until(lambda: any("one: leading no more" in line for line in case.said), "sees it")
                await asyncio.sleep(30)
                assert len(case.api.writes(by="minwatt")) == cut_at

    stage(story)


def test_faults_of_the_server_are_waited_out(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        scales: dict[str, Any] = {"verbs": "update", "resource": "deployments", "subresource": "scale"}
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.api.faults.answer(409, **scales)
            case.api.faults.answer(429, retry_after_s=3, **scales)
            case.api.faults.answer(500, **scales)
            case.api.faults.drop(after=True, **scales)  # done, and the answer lost
            case.api.cut_watches("gone")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "scaled up")
            case.api.forget_changes()
            case.api.cut_watches("torn")
            case.hub.fleets[FLEET].rate_rps = 20.0
            await case.until(lambda: case.replicas() <= 2, "scaled down")
            await case.until(lambda: ready(case), "ready again")
            case.api.faults.delay(3.0, times=None)  # slow, and it must lead all the same
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "scaled up by a slow server")
            assert sum("leading as" in line for line in case.said) == 1

    stage(story)


def test_one_policy_s_broken_loop_is_another_s_nothing(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(
            workload(replicas=2), policy(), workload("other", replicas=2), policy("other", target="other")
        )
        async with case.control():
            await case.until(lambda: ready(case) and case.condition("Ready", "other")[0] == "True", "both")
            broken = case.hub.fleets[f"{NAMESPACE}/other"]
            broken.fails = RuntimeError("a mistake in the program")
            await case.until(refused(case, "LoopFailed", "other"), "said")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3 and ready(case), "the first goes on")
            assert case.condition("Ready", "other") == ("False", "LoopFailed")
            assert case.replicas("other") == 2
            broken.fails = None
            await case.until(lambda: case.condition("Ready", "other")[0] == "True", "begun anew")
            assert sum("leading as" in line for line in case.said) == 1

    stage(story)


def test_one_policy_s_target_that_can_t_be_read_leaves_the_others_their_status(
    stage: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(key: TargetKey, *rest: Any) -> str:
        if key.name == "other":
            raise TypeError("a mistake in the program")
        return rollout_of(key, *rest)

    async def story(case: Scenario) -> None:
        case.api.apply(
            workload(replicas=2), policy(), workload("other", replicas=2), policy("other", target="other")
        )
        async with case.control():
            await case.until(lambda: ready(case) and case.condition("Ready", "other")[0] == "True", "both")
            with monkeypatch.context() as patched:
                patched.setattr("scaler.kube.sight.rollout_of", failing)
                case.api.apply(workload("other", replicas=3))
                await case.until(refused(case, "LoopFailed", "other"), "said")
                case.hub.fleets[FLEET].rate_rps = BUSY_RPS
                await case.until(
                    lambda: 3 < case.replicas() == case.status()["replicas"]["current"], "the first's is told"
                )
            await case.until(lambda: case.condition("Ready", "other")[0] == "True", "begun anew")

    stage(story)
