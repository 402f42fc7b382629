from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.pods import count_pods
from scaler.kube.rivals import TargetKey
from scaler.kube.rollout import rollout_of
from tests.scaler.kube.made_objects import TARGET, deployment, pod, pods

STANDINGS = ("ready", "starting", "pending", "unschedulable", "terminating", "failed")


@given(st.lists(st.sampled_from(STANDINGS)))
def test_each_pod_counts_once_and_the_ended_not_at_all(standings: list[str]) -> None:
    counts = count_pods([pod(f"p{number}", one) for number, one in enumerate(standings)])
    assert counts.staying + counts.terminating == len(standings) - standings.count("failed")
    assert counts.unschedulable == standings.count("unschedulable") <= counts.pending


def test_the_scheduler_s_words_are_of_the_pod_that_waits_longest() -> None:
    first, second = pod("a", "unschedulable"), pod("b", "unschedulable")
    second["status"]["conditions"][0] |= {"message": "later", "lastTransitionTime": "2026-11-22T03:00:00Z"}
    counts = count_pods([second, first])
    assert counts.unschedulable_why.startswith("0/3 nodes")
    assert counts.unschedulable_since_s == 1795313284.0


def test_a_pod_that_was_never_seen_by_a_scheduler_is_pending_and_not_unschedulable() -> None:
    counts = count_pods(
        [{"metadata": {"name": "p"}, "status": {"phase": "Pending", "qosClass": "BestEffort"}}]
    )
    assert (counts.pending, counts.unschedulable, counts.unschedulable_since_s) == (1, 0, None)


STATEFUL_SET = TargetKey("inference", "apps", "StatefulSet", "support-text")
ROLLOUT = TargetKey("inference", "argoproj.io", "Rollout", "support-text")


def listed(found: dict[str, Any]) -> dict[str, Any]:
    """As an item of a list: a server's own kinds are not named on each."""
    return {name: part for name, part in found.items() if name not in {"apiVersion", "kind"}}


def test_a_deployment_is_in_a_rollout_while_it_has_old_pods_or_an_unseen_change() -> None:
    none = count_pods(pods(ready=3))
    assert rollout_of(TARGET, deployment(), none) == ""
    assert "2 of 4 pods" in rollout_of(TARGET, deployment(3, updated=2, total=4), none)
    assert "2 of 4 pods" in rollout_of(TARGET, listed(deployment(3, updated=2, total=4)), none)
    assert rollout_of(TARGET, deployment(5, updated=3, total=3), none) == ""  # grows: no pod is old
    unseen = deployment()
    unseen["metadata"]["generation"] = 3
    assert rollout_of(TARGET, unseen, none) != ""


def stateful_set(partition: int, updated: int, revision: str = "b") -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    status = {"currentRevision": "a", "updateRevision": revision, "updatedReplicas": updated}
    return {
        "kind": "StatefulSet",
        "metadata": {"generation": 1},
        "spec": {"replicas": 4, "updateStrategy": strategy},
        "status": {"observedGeneration": 1, **status},
    }


def test_a_stateful_set_s_partition_is_no_rollout_for_ever() -> None:
    mixed = count_pods([pod("a"), pod("b", revision="r2")])
    assert rollout_of(STATEFUL_SET, stateful_set(0, 1), mixed) == "3 of 4 pods are of an older revision"
    assert rollout_of(STATEFUL_SET, stateful_set(3, 1), mixed) == ""
    assert rollout_of(STATEFUL_SET, listed(stateful_set(3, 1)), mixed) == ""


def test_a_stateful_set_that_goes_back_is_in_a_rollout_until_its_pods_are_there() -> None:
    """Its controller finds the revision that it had again, and says no other."""
    back = stateful_set(0, 0, revision="a")
    mixed = count_pods([pod("a"), pod("b", revision="r2")])
    assert rollout_of(STATEFUL_SET, back, mixed) == "pods of 2 revisions"
    assert rollout_of(STATEFUL_SET, back, count_pods([pod("a"), pod("b")])) == ""
    left_to_a_person = {**back, "spec": {**back["spec"], "updateStrategy": {"type": "OnDelete"}}}
    assert rollout_of(STATEFUL_SET, left_to_a_person, mixed) == ""


def test_of_a_kind_that_can_t_be_read_the_pods_revisions_tell() -> None:
    mixed = count_pods([pod("a"), pod("b", revision="r2")])
    leaving = count_pods([pod("a"), pod("b", "terminating", revision="r2")])
    assert rollout_of(TARGET, None, mixed) == "pods of 2 revisions"
    assert rollout_of(TARGET, None, leaving) == ""


def test_of_a_kind_of_others_its_generation_tells_as_a_number_or_as_text_and_its_pods_revisions() -> None:
    same = count_pods([argo_pod("a", "6f9"), argo_pod("b", "6f9")])
    assert rollout_of(ROLLOUT, argo_rollout(observed="3"), same) == ""
    assert rollout_of(ROLLOUT, argo_rollout(observed="2"), same) != ""
    assert rollout_of(ROLLOUT, argo_rollout(observed=2), same) != ""
    assert rollout_of(ROLLOUT, argo_rollout(observed="c8d7"), same) == "", "an old one's hash: nothing known"
    canary = count_pods([argo_pod("a", "6f9"), argo_pod("b", "7c5")])
    assert rollout_of(ROLLOUT, argo_rollout(observed="3"), canary) == "pods of 2 revisions"
    of_another_group = TargetKey("inference", "example.com", "Deployment", "support-text")
    odd = {"metadata": {}, "status": {"replicas": {"hot": 3}, "updatedReplicas": "some"}}
    assert rollout_of(of_another_group, odd, same) == ""


def argo_rollout(observed: object) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": {}, "status": {"observedGeneration": observed}}


def argo_pod(name: str, hash_: str) -> dict[str, Any]:
    made = pod(name, **{"rollouts-pod-template-hash": hash_})
    del made["metadata"]["labels"]["pod-template-hash"]
    return made
