"""Two controllers as processes, with the machine's own time: what no simulated clock can show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.kube.crd import custom_resource_definition
from tests.e2e.kube_processes import ControllerProcess, PodReplicas, until
from tests.e2e.kube_world import NAMESPACE, SYSTEM, deployment, namespace, policy, rights
from tests.kube_api.laws import assert_laws
from tests.kube_api.request_log import WRITES
from tests.kube_api.stand_in import KubeApi
from tests.scaler.made_up import profile

QUIET_RPS, BUSY_RPS = 60.0, 500.0
SCALE: dict[str, Any] = {"resource": "deployments", "subresource": "scale"}


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    directory = tmp_path / "profiles"
    directory.mkdir()
    (directory / "tiny.yaml").write_text(yaml.safe_dump(profile().model_dump(mode="json", by_alias=True)))
    return directory


def test_a_leader_that_stood_still_in_mid_decision_writes_nothing_when_it_goes_on(
    kube_api: KubeApi, profiles: Path
) -> None:
    """One write of it is under way, and one decision is made but for the scale that it has asked for."""
    api = kube_api
    api.apply(custom_resource_definition(), namespace(SYSTEM), namespace(NAMESPACE))
    for name in ("left", "right"):
        api.apply(deployment(1, name=name), policy(name))
    for account in ("minwatt-a", "minwatt-b"):
        api.apply(*rights(account))

    def controller(name: str) -> ControllerProcess:
        return ControllerProcess(api.kubeconfig(SYSTEM, f"minwatt-{name}"), profiles, SYSTEM, name)

    def replicas(name: str) -> int:
        count: int = api.find("deployments", NAMESPACE, name)["spec"]["replicas"]
        return count

    def ready(name: str) -> bool:
        conditions = api.find("powerpolicies", NAMESPACE, name).get("status", {}).get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    with controller("a") as first:
        until(lambda: first.fleets_join, "the first leads")
        with (
            controller("b") as second,
            PodReplicas(
                api,
                NAMESPACE,
                lambda: second.fleets_join or first.fleets_join,
                {"left": QUIET_RPS, "right": QUIET_RPS},
            ) as pods,
        ):
            until(lambda: ready("left") and ready("right"), "both policies are in force")
            reading = api.faults.hold(verbs="get", name="right", by="minwatt-a", **SCALE)
            writing = api.faults.hold(verbs="update", name="left", by="minwatt-a", **SCALE)
            api.patch("deployments", NAMESPACE, "right", {"metadata": {"labels": {"touched": "yes"}}})
            until(reading.arrived.is_set, "the first reads a scale")
            pods.load_rps["left"] = BUSY_RPS
            until(writing.arrived.is_set, "the first writes another")
            first.stop_still()
            pods.load_rps["right"] = BUSY_RPS

            until(lambda: second.fleets_join, "the second leads")
            until(lambda: replicas("left") > 1 and replicas("right") > 1, "the second acts")
            taken_over = len(api.log)
            for held in (writing, reading):
                held.go.set()
            first.go_on()
            until(lambda: any("leading no more" in line for line in first.said), "the first has seen it")
            time.sleep(3.0)

            # What was on its way is refused, and nothing is sent after it. A status may have been so too,
            # between the fence's word and the wire: that is what the precondition is for.
            sent = [each for each in api.log[taken_over:] if each.user.endswith("minwatt-a")]
            writes = [(each.resource, each.name, each.code) for each in sent if each.verb in WRITES]
            assert ("deployments.apps/scale", "left", 409) in writes
            others = [one for one in writes if one[0] != "deployments.apps/scale"]
            assert len(writes) - len(others) == 1
            assert len(others) <= 1
            assert {code for _, _, code in writes} == {409}
            assert api.find("powerpolicies", NAMESPACE, "left")["status"]["fence"]["transitions"] == 1
    assert_laws(api.log, least=1)
