from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.pods import count_pods
from scaler.kube.rollout import rollout_of
from tests.scaler.kube.made_objects import deployment, pod, pods

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


def test_a_deployment_is_in_a_rollout_while_it_has_old_pods_or_an_unseen_change() -> None:
    none = count_pods(pods(ready=3))
    assert rollout_of(deployment(), none) == ""
    assert "2 of 4 pods" in rollout_of(deployment(3, updated=2, total=4), none)
    assert rollout_of(deployment(5, updated=3, total=3), none) == ""  # grows: no pod is old
    unseen = deployment()
    unseen["metadata"]["generation"] = 3
    assert rollout_of(unseen, none) != ""


def stateful_set(partition: int, updated: int, revision: str = "b") -> dict[str, object]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    status = {"currentRevision": "a", "updateRevision": revision, "updatedReplicas": updated}
    return {
        "kind": "StatefulSet",
        "metadata": {"generation": 1},
        "spec": {"replicas": 4, "updateStrategy": strategy},
        "status": {"observedGeneration": 1, **status},
    }


def test_a_stateful_set_s_partition_is_no_rollout_for_ever() -> None:
    none = count_pods([])
    assert rollout_of(stateful_set(0, 1), none) == "3 of 4 pods are of an older revision"
    assert rollout_of(stateful_set(3, 1), none) == ""
    assert rollout_of(stateful_set(0, 0, revision="a"), none) == ""


def test_of_a_kind_that_can_t_be_read_the_pods_revisions_tell() -> None:
    mixed = count_pods([pod("a"), pod("b", revision="r2")])
    leaving = count_pods([pod("a"), pod("b", "terminating", revision="r2")])
    assert rollout_of(None, mixed) == "pods of 2 revisions"
    assert rollout_of(None, leaving) == ""
