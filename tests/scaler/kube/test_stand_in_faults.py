"""What the stand-in does wrong when it is told to, and what its cluster makes of workloads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.kube_api.http_client import Asking
from tests.kube_api.reach import is_ready
from tests.kube_api.samples import SCALE_PATH, deployment
from tests.kube_api.stand_in import KubeApi

MERGE = "application/merge-patch+json"
SCALE: dict[str, Any] = {"resource": "deployments", "subresource": "scale"}
SET = {"apiVersion": "apps/v1", "kind": "StatefulSet"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubeApi]:
    with KubeApi(tmp_path, stepped=True) as started:
        yield started


@pytest.fixture
def ask(api: KubeApi) -> Iterator[Asking]:
    with Asking(api) as asking:
        yield asking


def standing(api: KubeApi) -> Counter[str]:
    def word(pod: dict[str, Any]) -> str:
        if "deletionTimestamp" in pod["metadata"]:
            return "terminating"
        return "ready" if is_ready(pod) else str(pod["status"]["phase"])

    return Counter(word(pod) for pod in api.all_of("pods", "default"))


def images(api: KubeApi) -> Counter[str]:
    pods = [pod for pod in api.all_of("pods", "default") if "deletionTimestamp" not in pod["metadata"]]
    return Counter(pod["spec"]["containers"][0]["image"] for pod in pods)


# Faults


def test_an_answer_that_was_asked_for_comes_so_often_and_changes_nothing(api: KubeApi, ask: Asking) -> None:
    api.apply(deployment(replicas=2))
    api.faults.answer(409, verbs="patch", **SCALE)
    api.faults.answer(429, retry_after_s=7, verbs="patch", **SCALE)
    api.faults.answer(500, verbs="patch", times=2, **SCALE)
    change = {"spec": {"replicas": 3}}
    assert ask("GET", SCALE_PATH).code == 200
    replies = [ask("PATCH", SCALE_PATH, change, MERGE) for _ in range(5)]
    assert [reply.code for reply in replies] == [409, 429, 500, 500, 200]
    assert replies[1].headers["Retry-After"] == "7"
    assert [each.wrote for each in api.log[1:]] == [False, False, False, False, True]


def test_a_lost_answer_may_be_of_a_write_that_was_done(api: KubeApi, ask: Asking) -> None:
    api.apply(deployment(replicas=2))
    for after, replicas in ((False, 2), (True, 3)):
        api.faults.drop(after=after, verbs="patch", **SCALE)
        with pytest.raises(urllib3.exceptions.HTTPError):
            ask("PATCH", SCALE_PATH, {"spec": {"replicas": 3}}, MERGE)
        assert ask("GET", SCALE_PATH).body["spec"] == {"replicas": replicas}


def test_a_request_that_is_held_is_answered_when_it_is_let_go(api: KubeApi, ask: Asking) -> None:
    api.apply(deployment(replicas=2))
    held = api.faults.hold(verbs="get", **SCALE)
    answers: list[int] = []

    def asking() -> None:
        with Asking(api) as other:
            answers.append(other("GET", SCALE_PATH).body["spec"]["replicas"])

    waiting = threading.Thread(target=asking)
    waiting.start()
    assert held.arrived.wait(20)
    ask("PATCH", SCALE_PATH, {"spec": {"replicas": 5}}, MERGE)
    held.go.set()
    waiting.join(20)
    assert answers == [5]


def test_a_server_that_is_stopped_refuses_and_comes_back_as_it_was(api: KubeApi, ask: Asking) -> None:
    api.apply(deployment(replicas=2))
    api.stop()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        ask("GET", SCALE_PATH)
    api.start()
    assert ask("GET", SCALE_PATH).body["spec"] == {"replicas": 2}


@pytest.mark.parametrize(("ending", "last"), [("gone", 410), ("closed", None), ("torn", "half a line")])
def test_an_open_watch_ends_as_it_is_told(api: KubeApi, ending: Any, last: object) -> None:
    lines: list[str] = []

    def watching() -> None:
        with urllib3.PoolManager(ca_cert_data=api.authority_pem.decode(), retries=False) as pool:
            headers = {"Authorization": f"Bearer {api.token()}"}
            url = f"{api.url}/api/v1/namespaces?watch=1"
            stream = pool.request("GET", url, headers=headers, preload_content=False, timeout=20)
            try:
                lines.extend(line for chunk in stream.stream() for line in chunk.decode().splitlines())
            except urllib3.exceptions.HTTPError:
                lines.append("broken")

    thread = threading.Thread(target=watching)
    thread.start()
    while not api.open_watches:
        thread.join(0.01)
    api.cut_watches(ending)
    thread.join(20)
    assert not thread.is_alive()
    if ending == "gone":
        assert f'"code": {last}' in lines[-1]
    else:
        assert (lines[-1] == "broken") == (ending == "torn")


# The cluster behind it


def test_pods_come_up_and_go_in_their_time(api: KubeApi) -> None:
    api.cluster.start_s, api.cluster.ready_s, api.cluster.stop_s = 2.0, 3.0, 4.0
    api.apply(deployment(replicas=3))
    assert standing(api) == {"Pending": 3}
    api.advance(2)
    assert standing(api) == {"Running": 3}
    api.advance(3)
    assert standing(api) == {"ready": 3}
    api.patch("deployments", "default", "support-text", {"spec": {"replicas": 1}})
    assert standing(api) == {"ready": 1, "terminating": 2}
    api.advance(4)
    assert standing(api) == {"ready": 1}
    status = api.find("deployments", "default", "support-text")["status"]
    assert (status["replicas"], status["readyReplicas"], status["observedGeneration"]) == (1, 1, 2)


def test_what_finds_no_room_waits_until_there_is(api: KubeApi) -> None:
    api.cluster.room = 2
    api.apply(deployment(replicas=3))
    assert standing(api) == {"ready": 2, "Pending": 1}
    (waiting,) = [pod for pod in api.all_of("pods", "default") if not is_ready(pod)]
    (condition,) = waiting["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    api.cluster.room = 3
    api.settle()
    assert standing(api) == {"ready": 3}


@pytest.mark.parametrize(
    ("rolling", "most", "least"),
    [({"maxSurge": 1, "maxUnavailable": 0}, 5, 4), ({"maxSurge": 0, "maxUnavailable": 2}, 4, 2)],
)
def test_a_rollout_keeps_to_its_surge_and_availability(
    api: KubeApi, rolling: dict[str, int], most: int, least: int
) -> None:
    api.cluster.ready_s = 3.0
    api.apply(deployment(replicas=4, strategy={"type": "RollingUpdate", "rollingUpdate": rolling}))
    api.advance(3)
    containers = [{"name": "service", "image": "minwatt-service:2"}]
    api.patch(
        "deployments", "default", "support-text", {"spec": {"template": {"spec": {"containers": containers}}}}
    )
    seen = set()
    for _ in range(60):
        counts = standing(api)
        seen.add((counts.total() - counts["terminating"], counts["ready"]))
        api.advance(0.5)
    assert images(api) == {"minwatt-service:2": 4}
    assert max(total for total, _ in seen) == most
    assert min(ready for _, ready in seen) == least
    status = api.find("deployments", "default", "support-text")["status"]
    assert (status["updatedReplicas"], status.get("unavailableReplicas", 0)) == (4, 0)
    assert {each["reason"] for each in status["conditions"]} == {
        "MinimumReplicasAvailable",
        "NewReplicaSetAvailable",
    }


def test_a_stateful_set_starts_in_order_and_stops_from_the_end(api: KubeApi) -> None:
    api.cluster.ready_s = 1.0
    api.apply({**deployment(replicas=3), **SET})
    assert standing(api) == {"Running": 1}
    api.advance(3)
    assert standing(api) == {"ready": 3}
    api.patch("statefulsets", "default", "support-text", {"spec": {"replicas": 1}})
    api.advance(2)
    assert [pod["metadata"]["name"] for pod in api.all_of("pods", "default")] == ["support-text-0"]


def test_pods_leave_with_what_owned_them(api: KubeApi) -> None:
    api.apply(deployment(replicas=2))
    api.delete("deployments", "default", "support-text")
    api.advance(1)
    assert standing(api) == {}
    assert api.all_of("replicasets", "default") == []


def test_a_budget_counts_its_pods_and_keeps_evictions_off(api: KubeApi, ask: Asking) -> None:
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "support-text"}}}
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": spec,
    }
    api.apply(deployment(replicas=2), budget)
    assert api.find("poddisruptionbudgets", "default", "b")["status"]["disruptionsAllowed"] == 0
    name = api.all_of("pods", "default")[0]["metadata"]["name"]
    assert ask("POST", f"/api/v1/namespaces/default/pods/{name}/eviction", {}).code == 429
    api.patch("deployments", "default", "support-text", {"spec": {"replicas": 3}})
    assert ask("POST", f"/api/v1/namespaces/default/pods/{name}/eviction", {}).code == 201
