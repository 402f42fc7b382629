"""A target of a kind that minwatt has never heard of: found by discovery, scaled by its `scale` subresource.

The kind's own operator is played here: it runs the pods through a Deployment of its own, of the same name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.stories import BUSY_RPS, FLEET, Play, ready, refused, role

GROUP, PLURAL, KIND = "serving.example.com", "modelservers", "ModelServer"
NAME = "support-text"
WITHOUT_SELECTOR = {"specReplicasPath": ".spec.copies", "statusReplicasPath": ".status.copies"}
SCALE = {**WITHOUT_SELECTOR, "labelSelectorPath": ".status.selector"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    def at(story: Callable[[Scenario], Coroutine[Any, Any, None]]) -> None:
        play(tmp_path, monkeypatch, story)

    return at


def definition(scale: dict[str, str] | None) -> dict[str, Any]:
    """Its count is not called `replicas`: only the `scale` subresource knows where it is."""
    integer, text = {"type": "integer"}, {"type": "string"}
    properties = {
        "spec": {"type": "object", "properties": {"copies": integer}},
        "status": {
            "type": "object",
            "properties": {"copies": integer, "selector": text, "observedGeneration": text},
        },
    }
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "subresources": {"status": {}, **({} if scale is None else {"scale": scale})},
    }
    names = {"plural": PLURAL, "singular": KIND.lower(), "kind": KIND, "listKind": f"{KIND}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def model_server(copies: int) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": KIND,
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"copies": copies},
    }


def aimed() -> dict[str, Any]:
    reference = {"apiVersion": f"{GROUP}/v1beta1", "kind": KIND, "name": NAME}
    return policy(targetRef=reference)


def granted(case: Scenario) -> None:
    """What who names a kind of their own gives the controller beside its own role."""
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": "minwatt-model-servers"}
    rules = [
        {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["list", "watch"]},
        {"apiGroups": [GROUP], "resources": [f"{PLURAL}/scale"], "verbs": ["get", "update"]},
    ]
    binding = {
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **meta},
        "subjects": [{"kind": "ServiceAccount", "name": "minwatt", "namespace": NAMESPACE}],
    }
    case.api.apply(
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": meta, **binding},
    )


def copies(case: Scenario) -> int:
    return int(case.api.find(PLURAL, NAMESPACE, NAME)["spec"]["copies"])


@contextlib.asynccontextmanager
async def operated(case: Scenario) -> AsyncIterator[None]:
    """The kind's own operator. It spells the generation that it saw as text, as Argo Rollouts' does."""

    async def run() -> None:
        case.api.apply(workload(NAME, replicas=copies(case)))
        while True:
            if case.replicas(NAME) != copies(case):
                change = {"spec": {"replicas": copies(case)}}
                case.api.patch("deployments", NAMESPACE, NAME, change)
            server = case.api.find(PLURAL, NAMESPACE, NAME)
            generation = str(server["metadata"]["generation"])
            seen = {
                "copies": len(case.ready_pods(NAME)),
                "selector": f"app={NAME}",
                "observedGeneration": generation,
            }
            if server.get("status") != seen:
                case.api.patch(PLURAL, NAMESPACE, NAME, {"status": seen}, of="status")
            await asyncio.sleep(1.0)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_custom_resource_is_scaled_by_its_scale_subresource_with_no_right_but_those_on_it(
    stage: Play,
) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(definition(SCALE), model_server(copies=2), aimed())
        async with operated(case), case.control(**role(case)):
            await case.until(refused(case, "AccessDenied"), "nobody has granted it")
            assert f'cannot get resource "{PLURAL}/scale" in API group "{GROUP}"' in case.message("Ready")
            granted(case)
            await case.until(lambda: ready(case), "granted")
            traffic = case.hub.fleets[FLEET]
            await case.until(lambda: case.status()["replicas"]["ready"] == 2, "its pods are seen")
            traffic.rate_rps = BUSY_RPS
            await case.until(lambda: copies(case) > 3, "scaled up")
            await case.until(lambda: "ScaledUp" in case.events(), "told")
            await case.until(lambda: case.status()["replicas"]["ready"] == copies(case), "and all are ready")
            most, traffic.rate_rps = copies(case), 20.0
            await case.until(lambda: copies(case) < most, "scaled down")
            await case.until(lambda: "ScaledDown" in case.events(), "told")
        mine = [one for one in case.api.writes(by="minwatt") if GROUP in one.resource]
        assert {(one.verb, one.resource) for one in mine} == {("update", f"{PLURAL}.{GROUP}/scale")}
        assert all(one.version_given for one in mine)

    stage(story)


def test_a_kind_without_a_scale_is_refused_in_words_until_it_has_one(stage: Play) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(aimed())
        async with case.control():
            await case.until(refused(case, "TargetKindUnknown"), "no such API")
            assert f"{GROUP}/v1beta1" in case.message("Ready")
            case.api.apply(definition(None), model_server(copies=2))
            await case.until(refused(case, "TargetNotScalable"), "no scale")
            assert "has no scale subresource" in case.message("Ready")
            assert "TargetNotScalable" in case.events()
            case.api.apply(definition(WITHOUT_SELECTOR))
            await case.until(lambda: "names no selector" in case.message("Ready"), "whose pods?")
            await asyncio.sleep(60)
            assert case.condition("Ready") == ("False", "TargetNotScalable")
            assert not [one for one in case.api.writes() if one.resource.endswith("/scale")]
            assert copies(case) == 2
            case.api.apply(definition(SCALE))
            async with operated(case):
                await case.until(lambda: ready(case), "as it should be")
                case.hub.fleets[FLEET].rate_rps = BUSY_RPS
                await case.until(lambda: copies(case) > 3, "scaled up")
        assert sum("leading as" in line for line in case.said) == 1

    stage(story)


def keda() -> dict[str, Any]:
    """Its definition, with as much in it as a test needs."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def test_a_scaled_object_is_not_fought_until_it_or_keda_itself_is_gone(stage: Play) -> None:
    """Without a kind, in the target's reference, KEDA takes a Deployment."""
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "crowd", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"name": NAME}},
    }

    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control(**role(case)):
            await case.until(lambda: ready(case), "KEDA is not there")
            case.api.apply(keda(), scaled)
            await case.until(refused(case, "OtherAutoscaler"), "it came, with one")
            assert "ScaledObject crowd" in case.message("Ready")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            await asyncio.sleep(60)
            assert case.replicas() == 2
            watched = {"verbs": ("list", "watch"), "resource": "scaledobjects", "times": None}
            case.api.faults.answer(503, **watched)
            case.api.cut_watches("torn")
            await asyncio.sleep(2)
            case.api.delete("customresourcedefinitions", None, "scaledobjects.keda.sh")
            case.api.faults.clear()
            await case.until(lambda: case.replicas() > 3, "taken away, unseen")

    stage(story)
