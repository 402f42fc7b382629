"""How far a decision may be acted on, as laws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.disruption import Budget, allowed_down, budgets_over
from scaler.kube.facts import Facts, allow
from scaler.kube.pods import count_pods
from scaler.kube.selectors import matches
from tests.scaler.kube.made_objects import budget, pod, pods, scale

AMOUNTS = st.one_of(st.integers(0, 12), st.integers(0, 100).map(lambda share: f"{share}%"))
BUDGETS = st.lists(
    st.builds(Budget, st.just("b"), min_available=AMOUNTS)
    | st.builds(Budget, st.just("b"), max_unavailable=AMOUNTS),
    max_size=3,
)


@given(
    current=st.integers(0, 12),
    desired=st.integers(0, 12),
    ready=st.integers(0, 12),
    budgets=BUDGETS,
    not_ready_first=st.booleans(),
)
def test_a_scale_down_leaves_what_each_budget_asks_for(
    current: int, desired: int, ready: int, budgets: list[Budget], not_ready_first: bool
) -> None:
    ready = min(ready, current)
    allowed = allowed_down(current, desired, ready, budgets, not_ready_first=not_ready_first)
    if desired >= current:
        assert allowed.replicas == desired
        return
    assert desired <= allowed.replicas <= current
    if allowed.replicas < current:
        left = min(ready, allowed.replicas)
        if not not_ready_first:
            left = max(0, ready - (current - allowed.replicas))
        assert left == ready or all(left >= one.least_ready(allowed.replicas) for one in budgets)
    assert bool(allowed.held_by) == (allowed.replicas > desired)


@given(
    current=st.integers(0, 12),
    desired=st.integers(0, 12),
    least=st.integers(1, 12),
    unseen=st.sampled_from(["", "pods not seen yet"]),
    rollout=st.sampled_from(["", "2 of 4 pods are of an older revision"]),
    ready=st.integers(0, 12),
    reporting=st.integers(0, 12),
)
def test_what_is_written_is_never_below_the_minimum_nor_lower_in_the_dark(
    current: int, desired: int, least: int, unseen: str, rollout: str, ready: int, reporting: int
) -> None:
    facts = Facts(
        scale(current), count_pods(pods(ready=min(ready, current))), unseen, rollout, not_ready_first=True
    )
    permit = allow(desired, facts, least, reporting)
    assert permit.replicas >= min(current, least)
    if permit.replicas < current:
        assert not unseen
        assert not rollout
        assert reporting >= 0.9 * min(ready, current)
    if desired >= current:
        assert permit.replicas == desired
        assert not permit.held


def test_percentages_round_up_as_the_disruption_controller_rounds_them() -> None:
    assert Budget("b", min_available="50%").least_ready(5) == 3
    assert Budget("b", max_unavailable="30%").least_ready(5) == 3  # 2 of 5 may be away
    assert Budget("b").least_ready(5) == 4


def test_a_budget_counts_where_its_selector_finds_a_pod_that_stays() -> None:
    mine = budget(minAvailable=1)
    other = budget("other", minAvailable=1)
    other["spec"]["selector"] = {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}
    everything = budget("everything", minAvailable=1)
    everything["spec"]["selector"] = {}
    nothing = budget("nothing", minAvailable=1)
    del nothing["spec"]["selector"]
    found = budgets_over([pod("a")], [mine, other, everything, nothing], 1)
    assert [one.name for one in found] == ["guard", "everything"]
    assert budgets_over([pod("a", "terminating")], [mine], 1) == ()


def test_a_budget_is_matched_by_pods_and_not_by_their_template_as_the_api_server_does() -> None:
    """A StatefulSet's pods carry labels that its template has not, and an older revision's may be others."""
    stateful = [pod(f"set-{number}", **{"apps.kubernetes.io/pod-index": str(number)}) for number in range(3)]
    of_one = budget("of-one", minAvailable=1)
    of_one["spec"]["selector"] = {"matchLabels": {"apps.kubernetes.io/pod-index": "2"}}
    of_none = budget("of-none", minAvailable=1)
    of_none["spec"]["selector"] = {"matchLabels": {"apps.kubernetes.io/pod-index": "7"}}
    assert [one.name for one in budgets_over(stateful, [of_one, of_none], 3)] == ["of-one"]
    of_the_old = budget("of-the-old", minAvailable=1)
    of_the_old["spec"]["selector"] = {"matchLabels": {"pod-template-hash": "r0"}}
    found = budgets_over([pod("a", revision="r0"), pod("b")], [of_the_old], 2)
    assert [one.name for one in found] == ["of-the-old"]


def test_pods_that_protect_nobody_may_go_whatever_a_budget_asks_for() -> None:
    """Ten were asked for and four find no node: the budget is broken already, and no eviction mends it."""
    budgets = (Budget("b", max_unavailable=1),)
    counts = count_pods(pods(ready=6, starting=4))
    facts = Facts(scale(10), counts, budgets=budgets, not_ready_first=True)
    assert allow(8, facts, 1, 6).replicas == 8
    assert allow(6, facts, 1, 6).replicas == 6
    stateful = Facts(scale(10), counts, budgets=budgets)  # takes the last one, ready or not
    assert allow(8, stateful, 1, 6).replicas == 10


def test_pods_of_others_under_the_same_budget_count_once_its_controller_has_counted() -> None:
    wide: dict[str, Any] = budget(minAvailable=4)
    wide["status"] = {"observedGeneration": 1, "currentHealthy": 5, "expectedPods": 5}
    (one,) = budgets_over([pod("a"), pod("b")], [wide], 2)
    assert (one.others_ready, one.others_expected) == (3, 3)
    assert allowed_down(2, 1, 2, [one], not_ready_first=True).replicas == 1
    wide["status"]["observedGeneration"] = 0
    (one,) = budgets_over([pod("a"), pod("b")], [wide], 2)
    assert allowed_down(2, 1, 2, [one], not_ready_first=True).replicas == 2


def test_pods_that_are_not_ready_may_go_where_they_go_first() -> None:
    facts = Facts(
        scale(5),
        count_pods(pods(ready=3, starting=2)),
        budgets=(Budget("b", min_available=3),),
        not_ready_first=True,
    )
    assert allow(3, facts, 1, 3).replicas == 3
    assert allow(2, facts, 1, 3).replicas == 3
    assert allow(2, facts, 1, 3).reason == "DisruptionBudget"


def test_pods_that_are_labelled_alike_are_matched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of pods beside the budgets of other applications in their namespace."""
    asked: list[Any] = []

    def counted(selector: Any, labels: Any) -> bool:
        asked.append(labels)
        return matches(selector, labels)

    monkeypatch.setattr("scaler.kube.disruption.matches", counted)
    foreign = [budget(f"other-{number}", minAvailable=1) for number in range(20)]
    for one in foreign:
        one["spec"]["selector"] = {"matchLabels": {"app": "another"}}
    many = [*pods(ready=300), *(pod(f"old-{number}", revision="r0") for number in range(100))]
    found = budgets_over(many, [*foreign, budget(minAvailable=3)], 400)
    assert [one.name for one in found] == ["guard"]
    assert len(asked) <= 2 * 21
