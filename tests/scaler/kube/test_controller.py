"""The whole controller against a stand-in API server, minutes in a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scaler.kube.permissions import PERMISSIONS, Scope
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.made_objects import budget
from tests.scaler.kube.stories import BUSY_RPS, FLEET, Play, autoscaler, ready, refused, role


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return lambda story: play(tmp_path, monkeypatch, story)


def test_it_scales_a_deployment_with_the_rights_of_the_table_alone_and_says_why(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control(**role(case)):
            await case.until(lambda: ready(case), "ready")
            assert case.replicas() == 2
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "scaled up")
            await case.until(lambda: "ScaledUp" in case.events(), "told")
            await case.until(lambda: case.status()["replicas"]["current"] == case.replicas(), "status")
            assert case.status()["fence"]["transitions"] == 0
            versions = [point.version for point in case.hub.fleets[FLEET].points]
            assert versions
            assert versions == sorted(set(versions))
        assert "holderIdentity" not in case.api.find("leases", NAMESPACE, "minwatt-scaler")["spec"]
        for write in case.api.writes(by="minwatt"):
            if write.verb == "update":
                assert write.version_given  # nothing is overwritten blindly

    stage(story)
    assert {one.scope for one in PERMISSIONS} == set(Scope)


def test_a_policy_that_nothing_can_meet_leaves_the_last_good_one_in_force(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.api.apply(policy(model="unheard"))
            await case.until(refused(case, "NoProfile"), "refused")
            assert case.status()["generationInForce"] == 1
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "by the last good one")
            case.api.apply(policy(replicas={"min": 6, "max": 6}))
            await case.until(lambda: ready(case) and case.replicas() == 6, "mended")
            assert case.status()["generationInForce"] == 3
            assert sum("leading as" in line for line in case.said) == 1

    stage(story)


def test_a_profile_is_followed_and_one_that_can_not_be_read_leaves_the_last_good_one(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        file = case.directory / "profiles" / "tiny.yaml"
        good = file.read_text()
        case.api.apply(workload(replicas=2), policy(power={"budget": "60W"}))
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            file.write_text("kind: Profile\n")
            await case.until(refused(case, "ProfileUnreadable"), "said")
            await case.until(lambda: "ProfileUnreadable" in case.events(), "told")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "by the last good one")
            file.write_text(good.replace("model: tiny", "model: another"))
            await case.until(refused(case, "NoProfile"), "a good one, of another model")
            assert case.status()["generationInForce"] == 1
            file.write_text(good)
            await case.until(lambda: ready(case), "mended")
        assert sum("profile tiny.yaml: " in line for line in case.said) == 3

    stage(story)


def test_what_keeps_it_from_a_target_is_said_and_over_when_it_is_over(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(policy(replicas={"min": 3, "max": 6}))
        async with case.control():
            await case.until(refused(case, "TargetNotFound"), "no target")
            case.api.apply(workload(replicas=0))
            await case.until(refused(case, "ScaledToZero"), "switched off")
            case.api.apply(autoscaler(), workload(replicas=1))
            await case.until(refused(case, "OtherAutoscaler"), "an HPA")
            await case.until(lambda: "OtherAutoscaler" in case.events(), "told")
            await asyncio.sleep(20)
            assert case.replicas() == 1
            case.api.delete("horizontalpodautoscalers", NAMESPACE, "busy")
            await case.until(lambda: ready(case) and case.replicas() == 3, "alone with it")
            younger = policy("younger", target="support-text", replicas={"min": 6, "max": 6})
            case.api.apply(younger)
            await case.until(refused(case, "TargetClaimed", "younger"), "two policies")
            assert case.replicas() == 3
            case.api.delete("powerpolicies", NAMESPACE, "support-text")
            await case.until(lambda: case.replicas() == 6, "the younger's turn")

    stage(story)


def test_a_budget_and_a_rollout_hold_a_scale_down(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        guard = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", **budget(minAvailable=3)}
        del guard["metadata"]["generation"]
        case.api.apply(workload(replicas=5), policy(), guard)
        case.api.cluster.never_ready = lambda pod: "new" in pod["spec"]["containers"][0]["image"]
        async with case.control():
            await case.until(lambda: case.replicas() < 5, "fewer")
            await case.until(lambda: "DisruptionBudget" in case.events(), "held")
            assert case.replicas() == 3
            rolled = workload(replicas=3)
            rolled["spec"]["template"]["spec"]["containers"][0]["image"] = "minwatt:new"
            case.api.apply(rolled)
            case.api.delete("poddisruptionbudgets", NAMESPACE, "guard")
            await case.until(lambda: "RolloutInProgress" in case.events(), "held by the rollout")
            assert case.replicas() == 3
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "up is allowed")

    stage(story)


def test_a_pause_moves_nothing_and_an_outside_scaler_is_told_a_number(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=1), policy(annotations={"minwatt.dev/paused": "true"}))
        async with case.control():
            await case.until(lambda: case.condition("Paused")[0] == "True", "paused")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.status().get("decision", {}).get("desired", 0) > 1, "observed")
            assert case.replicas() == 1
            assert case.hub.fleets[FLEET].points == []
            external = {"minwatt.dev/paused": None, "minwatt.dev/replicas": "external"}
            case.api.patch(
                "powerpolicies", NAMESPACE, "support-text", {"metadata": {"annotations": external}}
            )
            await case.until(lambda: len(case.hub.fleets[FLEET].points) > 0, "points are set")
            await asyncio.sleep(20)
            assert case.replicas() == 1

    stage(story)


def test_a_right_that_is_missing_is_named_with_verb_and_resource(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control(**role(case, without="deployments/scale")):
            await case.until(refused(case, "AccessDenied"), "denied")
            (condition,) = [one for one in case.status()["conditions"] if one["type"] == "Ready"]
            assert 'cannot get resource "deployments/scale"' in condition["message"]
            role(case)
            await case.until(lambda: ready(case), "granted")

    stage(story)


def test_pods_that_find_no_node_are_not_asked_for_again_and_again(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.cluster.room = 2
        case.api.apply(workload(replicas=2, kind="StatefulSet"), policy(kind="StatefulSet"))
        async with case.control():
            await case.until(lambda: ready(case), "ready")
            case.hub.fleets[FLEET].rate_rps = 500.0
            await case.until(lambda: "PodsUnschedulable" in case.events(), "told")
            asked = case.replicas(plural="statefulsets")
            await asyncio.sleep(60)
            assert case.replicas(plural="statefulsets") == asked
            assert case.status()["replicas"]["unschedulable"] >= 1

    stage(story)


def test_without_a_right_to_see_pods_it_adds_replicas_takes_none_and_says_so(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=4), policy())
        async with case.control(**role(case, without="pods")):
            await case.until(refused(case, "AccessDenied"), "said")
            await asyncio.sleep(60)
            assert case.replicas() == 4
            case.hub.fleets[FLEET].rate_rps = 900.0
            await case.until(lambda: case.replicas() > 4, "added")

    stage(story)
