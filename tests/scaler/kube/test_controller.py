"""The whole controller against a stand-in API server, minutes in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scaler.kube.permissions import PERMISSIONS, Scope
from scaler.kube.rivals import TargetKey
from scaler.kube.rollout import rollout_of
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.made_objects import budget

Story = Callable[[Scenario], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]
FLEET = f"{NAMESPACE}/support-text"
BUSY_RPS = 600.0


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return lambda story: play(tmp_path, monkeypatch, story)


def ready(case: Scenario) -> bool:
    return case.condition("Ready")[0] == "True"


def refused(case: Scenario, reason: str, name: str = "support-text") -> Callable[[], bool]:
    return lambda: case.condition("Ready", name) == ("False", reason)


def autoscaler() -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support-text"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3},
    }


def role(case: Scenario, without: str = "") -> dict[str, Any]:
    """Options of a controller that has what the table says, and no more."""
    rules = [
        {
            "apiGroups": [one.resource.group],
            "resources": [one.resource.name],
            "verbs": sorted(one.verbs),
        }
        for one in PERMISSIONS
        if one.resource.name != without
    ]
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "minwatt"},
        "subjects": [{"kind": "ServiceAccount", "name": "minwatt", "namespace": NAMESPACE}],
    }
    rbac = "rbac.authorization.k8s.io/v1"
    case.api.apply(
        {**account, "metadata": {"name": "minwatt", "namespace": NAMESPACE}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "minwatt"}, "rules": rules},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "minwatt"}, **binding},
    )
    return {"kubeconfig": case.api.kubeconfig(NAMESPACE, "minwatt")}


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
