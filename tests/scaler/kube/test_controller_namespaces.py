"""One controller over policies of several namespaces, and one that is told to keep to some of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from scaler.kube.permissions import PERMISSIONS
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.stories import BUSY_RPS, FLEET, Play

OTHER = "nightly"
OTHER_FLEET = f"{OTHER}/support-text"
TARGET = "batch-text"  # of the policy in OTHER, which has the same name as the one in NAMESPACE
QUIET_RPS = 20.0


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    def at(story: Callable[[Scenario], Coroutine[Any, Any, None]]) -> None:
        play(tmp_path, monkeypatch, story)

    return at


def peopled(case: Scenario) -> None:
    case.api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHER}},
        workload(replicas=2),
        policy(),
        workload(TARGET, replicas=2, namespace=OTHER, app="support-text"),
        policy(namespace=OTHER, target=TARGET),
    )


def confined(case: Scenario) -> dict[str, Any]:
    """Options of a controller for NAMESPACE whose rights end there too."""
    rbac, where = "rbac.authorization.k8s.io", {"name": "minwatt", "namespace": NAMESPACE}
    rules = [
        {
            "apiGroups": [one.resource.group],
            "resources": [one.resource.name],
            "verbs": sorted(one.verbs),
        }
        for one in PERMISSIONS
    ]
    binding = {
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "minwatt"},
        "subjects": [{"kind": "ServiceAccount", **where}],
    }
    case.api.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": where, "rules": rules},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": where, **binding},
    )
    return {"kubeconfig": case.api.kubeconfig(NAMESPACE, "minwatt"), "namespaces": (NAMESPACE,)}


def is_ready(case: Scenario, namespace: str) -> bool:
    return case.condition("Ready", namespace=namespace)[0] == "True"


def test_two_policies_of_one_name_each_scale_their_own_target_and_say_so_in_their_own_place(
    stage: Play,
) -> None:
    async def story(case: Scenario) -> None:
        peopled(case)

        def other() -> int:
            return case.replicas(TARGET, namespace=OTHER)

        async with case.control():
            await case.until(lambda: is_ready(case, NAMESPACE) and is_ready(case, OTHER), "both")
            first, second = case.hub.fleets[FLEET], case.hub.fleets[OTHER_FLEET]
            first.rate_rps, second.rate_rps = BUSY_RPS, QUIET_RPS
            await case.until(lambda: case.replicas() > 3 and "ScaledUp" in case.events(), "the first")
            assert other() <= 2
            assert "ScaledUp" not in case.events(OTHER)
            ups = case.events().count("ScaledUp")
            second.rate_rps = BUSY_RPS
            await case.until(lambda: other() > 3 and "ScaledUp" in case.events(OTHER), "the second")
            assert case.events().count("ScaledUp") == ups
            for namespace, name in ((NAMESPACE, "support-text"), (OTHER, TARGET)):
                await case.until(
                    lambda namespace=namespace, name=name: (
                        case.status(namespace=namespace)["replicas"]["current"]
                        == case.replicas(name, namespace=namespace)
                    ),
                    "its own count",
                )
                for event in case.api.all_of("events", namespace):
                    about = event["regarding"]
                    uid = case.api.find("powerpolicies", namespace, "support-text")["metadata"]["uid"]
                    assert (about["namespace"], about["uid"]) == (namespace, uid)
        written = {(one.namespace, one.name) for one in case.api.writes() if one.resource.endswith("/scale")}
        assert written == {(NAMESPACE, "support-text"), (OTHER, TARGET)}

    stage(story)


def test_a_controller_for_one_namespace_leaves_the_others_alone_and_needs_no_right_there(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        peopled(case)
        async with case.control(**confined(case)):
            await case.until(lambda: is_ready(case, NAMESPACE), "ready")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() > 3, "scaled up")
            await case.until(lambda: "ScaledUp" in case.events(), "told")
        assert case.replicas(TARGET, namespace=OTHER) == 2
        assert case.status(namespace=OTHER) == {}
        assert case.events(OTHER) == []
        assert list(case.hub.fleets) == [FLEET]
        asked = {one.namespace for one in case.api.log if one.user.endswith("minwatt") and one.resource}
        assert asked == {NAMESPACE}

    stage(story)
