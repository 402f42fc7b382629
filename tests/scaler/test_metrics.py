"""What is shown is what the catalogue says, of each policy by itself, and gone when the policy is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from minwatt.v1.errors import UsageError
from scaler import metric_catalogue
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.metric_catalogue import BY_NAME, FAMILIES, LABELS
from scaler.metrics import Metrics
from scaler.policy import Policy
from scaler.record import FleetRow
from tests.scaler.made_up import policy

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "minwatt_scaler_"


def row(**changes: object) -> FleetRow:
    known: dict[str, object] = {
        "at_s": 1e9,
        "replicas_desired": 3,
        "replicas_ready": 2,
        "replicas_starting": 1,
        "replicas_draining": 0,
        "arrivals_rps": 30.0,
        "p99_s": 0.04,
        "watts": 5.0,
        "watts_source": "nvml",
        "joules_total": 70.0,
        "max_batch_texts": 8,
        "max_delay_s": 0.01,
        "sm_clock_mhz": 1410,
        "reflex_fraction": 0.25,
    }
    return FleetRow(**{**known, **changes})  # type: ignore[arg-type]


def decision(action: Action = Action.UP, watts: float | None = 6.0, *codes: ReasonCode) -> Decision:
    reasons = tuple(Reason(code, code.value) for code in codes)
    return Decision(0.0, action, 2, 3, None, 33.0, 0.05, watts, "profile", reasons)


def named(name: str, budget: str | None = "20W", **changes: object) -> Policy:
    made = policy(power={"budget": budget} if budget else {}, **changes)
    return made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": name})})


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def value(
    metrics: Metrics, name: str, /, namespace: str = "ns", policy: str = "a", **more: str
) -> float | None:
    labels = {"namespace": namespace, "policy": policy, **more}
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def shown_policies(metrics: Metrics) -> set[tuple[str, str]]:
    return {
        (sample.labels["namespace"], sample.labels["policy"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if "policy" in sample.labels
    }


def test_the_page_is_fresh() -> None:
    written = (ROOT / "docs" / "metrics-scaler.md").read_text(encoding="utf-8")
    assert written == metric_catalogue.page(), "python -m scaler.metric_catalogue > docs/metrics-scaler.md"


def test_each_label_is_described() -> None:
    assert {label for family in FAMILIES for label in family.labels} == set(LABELS)
    assert len(BY_NAME) == len(FAMILIES)


def test_all_that_stands_in_the_catalogue_is_shown_and_nothing_else() -> None:
    metrics = Metrics()
    watcher = metrics.of("ns", named("a"))
    watcher.observed(row())
    watcher.decided(decision(), 1e9)
    metrics.leading(True)
    metrics.api_error("update", 409)
    shown = {family.name: family for family in metrics.registry.collect()}
    assert shown.keys() == BY_NAME.keys()
    for name, family in shown.items():
        said = BY_NAME[name]
        assert (family.documentation, family.type) == (said.text, said.kind)
        assert family.samples, name
        for sample in family.samples:
            assert tuple(sample.labels) == said.labels, sample
    parsed = {
        sample.name
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
    }
    assert parsed == {family.shown for family in FAMILIES}


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    metrics = Metrics()
    watcher = metrics.of("ns", named("a", None))
    assert value(metrics, "replicas", state="desired") is None
    assert value(metrics, "over_budget") is value(metrics, "budget_watts") is None, "there is no budget"
    watcher.observed(row(arrivals_rps=None, p99_s=None, watts=None, joules_total=None, sm_clock_mhz=None))
    for name in ("arrivals_rps", "latency_p99_seconds", "sm_clock_hertz", "meter_unknown"):
        assert value(metrics, name) is None, name
    assert value(metrics, "watts", source="nvml") is value(metrics, "joules_total", source="nvml") is None
    assert value(metrics, "replicas", state="ready") == 2
    assert value(metrics, "leader") is metrics.registry.get_sample_value(PREFIX + "leader") is None


def test_rules_can_compare_without_knowing_the_policy() -> None:
    metrics = Metrics()
    metrics.of("ns", named("a", slo={"latency": "80ms", "percentile": 99, "errorBudget": "0.1%"}))
    assert value(metrics, "slo_latency_seconds") == 0.08
    assert value(metrics, "slo_percentile_ratio") == 0.99
    assert value(metrics, "error_budget_ratio") == 0.001
    assert value(metrics, "budget_watts") == 20.0


@pytest.mark.parametrize(
    ("measured_w", "planned_w", "over", "used"),
    [
        (21.0, 6.0, 1.0, 1.05),
        (20.0, 30.0, 0.0, 1.0),  # the meter has the word where there is one
        (None, 30.0, 1.0, None),
        (None, 6.0, 0.0, None),
        (None, None, None, None),
    ],
)
def test_over_budget_is_said_by_meters_or_else_by_the_plan(
    measured_w: float | None, planned_w: float | None, over: float | None, used: float | None
) -> None:
    metrics = Metrics()
    watcher = metrics.of("ns", named("a"))
    watcher.observed(row(watts=measured_w))
    watcher.decided(decision(watts=planned_w), 1e9)
    assert value(metrics, "over_budget") == over
    assert value(metrics, "budget_used_ratio") == used
    assert value(metrics, "meter_unknown") == (measured_w is None)


def test_telemetry_grows_stale_with_a_loop_that_hears_too_little_and_with_one_that_is_stuck() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    watcher = metrics.of("ns", named("a", telemetry={"staleAfter": "15s"}))
    for second in range(16):
        clock.now_s += 1
        watcher.observed(row(arrivals_rps=None))
        assert value(metrics, "telemetry_age_seconds") == second + 1
        assert value(metrics, "telemetry_stale") == (second + 1 > 15)
    watcher.observed(row())
    assert (value(metrics, "telemetry_age_seconds"), value(metrics, "telemetry_stale")) == (0, 0)
    clock.now_s += 60  # not a word from the loop
    assert (value(metrics, "telemetry_age_seconds"), value(metrics, "telemetry_stale")) == (60, 1)


def test_telemetry_of_a_fleet_that_was_never_ready_is_not_stale() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    watcher = metrics.of("ns", named("a", telemetry={"staleAfter": "15s"}))
    for _ in range(20):
        clock.now_s += 5
        watcher.decided(decision(Action.HOLD, None, ReasonCode.STARTING), 1e9)
        watcher.observed(row(arrivals_rps=None))
        assert value(metrics, "telemetry_stale") == 0
    clock.now_s += 16
    watcher.decided(decision(Action.HOLD, None, ReasonCode.MISSING_REPORTS), 1e9)
    assert value(metrics, "telemetry_stale") == 1


def test_an_edited_policy_shows_its_new_promises_and_goes_on_counting() -> None:
    metrics = Metrics()
    metrics.of("ns", named("a")).decided(decision(Action.UP, 6.0, ReasonCode.LOAD, ReasonCode.BACKLOG), 1e9)
    edited = metrics.of("ns", named("a", "30W"))
    edited.decided(decision(Action.UP, 6.0, ReasonCode.LOAD), 1e9 + 5)
    assert value(metrics, "budget_watts") == 30.0
    assert value(metrics, "decisions_total", action="up") == 2
    assert value(metrics, "decisions_total", action="down") == 0
    assert value(metrics, "decision_reasons_total", reason="load") == 2
    assert value(metrics, "decision_reasons_total", reason="backlog") == 1
    assert value(metrics, "last_decision_timestamp_seconds") == 1e9 + 5


def test_another_meter_replaces_the_series_of_the_first() -> None:
    metrics = Metrics()
    watcher = metrics.of("ns", named("a"))
    watcher.observed(row(watts_source="modelled"))
    watcher.observed(row(watts_source="modelled+nvml"))
    assert value(metrics, "watts", source="modelled") is None
    assert value(metrics, "watts", source="modelled+nvml") == 5.0


def test_leadership_and_refusals_are_of_the_process() -> None:
    metrics = Metrics()
    metrics.leading(False)
    metrics.api_error("update", 409)
    metrics.api_error("update", 409)
    metrics.api_error("watch", None)
    sample = metrics.registry.get_sample_value
    assert sample(PREFIX + "leader") == 0
    assert sample(PREFIX + "api_errors_total", {"verb": "update", "code": "409"}) == 2
    assert sample(PREFIX + "api_errors_total", {"verb": "watch", "code": "none"}) == 1


POLICIES = st.tuples(st.sampled_from(["", "one", "two"]), st.sampled_from(["a", "b"]))


@given(st.lists(st.tuples(st.sampled_from(["of", "observed", "decided", "forget"]), POLICIES), max_size=20))
def test_series_are_those_of_the_policies_that_are_there(steps: list[tuple[str, tuple[str, str]]]) -> None:
    metrics, there = Metrics(), set[tuple[str, str]]()
    for step, (namespace, name) in steps:
        if step == "forget":
            metrics.forget(namespace, name)
            there.discard((namespace, name))
            continue
        watcher = metrics.of(namespace, named(name))
        there.add((namespace, name))
        if step == "observed":
            watcher.observed(row())
        elif step == "decided":
            watcher.decided(decision(), 1e9)
    assert shown_policies(metrics) == there


def test_a_watcher_that_outlives_its_policy_brings_no_series_back() -> None:
    metrics = Metrics()
    watcher = metrics.of("ns", named("a"))
    metrics.forget("ns", "a")
    watcher.observed(row())
    assert shown_policies(metrics) == set()


def test_a_port_that_is_taken_is_one_line() -> None:
    first, second = Metrics(), Metrics()
    port = int(first.serve("127.0.0.1", 0).rpartition(":")[2].removesuffix("/metrics"))
    try:
        with pytest.raises(UsageError, match=rf"--metrics-port = {port}: can't listen on 127.0.0.1"):
            second.serve("127.0.0.1", port)
    finally:
        first.close()
