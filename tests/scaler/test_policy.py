"""The policy file: what it means, and what is said of a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from minwatt.resources import default_policy
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import format_duration, format_power, parse_duration_s, parse_power_w
from scaler.documents import parse_document
from scaler.policy import Policy, Spec, load_policy

FULL = """
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: support-text}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: support-text}
  model: support-text
  slo: {latency: 50ms, percentile: 99, errorBudget: 0.1%}
  power:
    budget: 1200W
    whenOverBudget: [lowerClocks, cheaperVariant, shedLowPriority]
  replicas: {min: 1, max: 40}
  batching: {maxSize: 64, maxDelay: 20ms}
  variants: {allow: [int8, fp16], minAccuracy: 0.92}
  gpu: {clocks: auto}
  behavior:
    tick: 5s
    scaleDown: {stabilizationWindow: auto}
  telemetry: {staleAfter: 15s, fallbackReplicas: 8}
  carbon: {intensityFile: grid.csv}
"""


def parse(text: str) -> Policy:
    return parse_document(text, Policy, "policy.yaml")


def test_every_field_of_the_schema_in_si_units() -> None:
    spec = parse(FULL).spec
    assert (spec.slo.latency_s, spec.slo.percentile, spec.slo.error_budget) == (0.05, 99.0, 0.001)
    assert (spec.power.budget_w, spec.replicas.max, spec.fallback_replicas) == (1200.0, 40, 8)
    assert (spec.batching.max_size, spec.batching.max_delay_s) == (64, 0.02)
    assert (spec.behavior.tick_s, spec.behavior.scale_down.window_s) == (5.0, None)


def test_fields_that_nothing_acts_on_are_said_in_the_summary() -> None:
    policy = parse(FULL)
    said = policy.summary()
    assert len(policy.not_acted_on()) == 2
    for field in ("targetRef", "carbon"):
        assert f"not acted on: {field}" in said
    for acted_on in ("lowerClocks", "cheaperVariant", "shedLowPriority", "gpu.clocks", "variants"):
        assert f"not acted on: {acted_on}" not in said
        assert f"not acted on: power.whenOverBudget: {acted_on}" not in said
    assert load_policy(default_policy()).not_acted_on() == ()


# By field of the spec that a fleet is run by: another value of it in FULL.
OTHERWISE = {
    "model": ("model: support-text", "model: other"),
    "slo.latency": ("latency: 50ms", "latency: 51ms"),
    "slo.percentile": ("percentile: 99", "percentile: 99.5"),
    "slo.errorBudget": ("errorBudget: 0.1%", "errorBudget: 0.05%"),
    "power.budget": ("budget: 1200W", "budget: 1201W"),
    "power.whenOverBudget": ("[lowerClocks, cheaperVariant, ", "[cheaperVariant, lowerClocks, "),
    "replicas.min": ("min: 1", "min: 2"),
    "replicas.max": ("max: 40", "max: 41"),
    "batching.maxSize": ("maxSize: 64", "maxSize: 63"),
    "batching.maxDelay": ("maxDelay: 20ms", "maxDelay: 19ms"),
    "variants.allow": ("[int8, fp16]", "[fp16, int8]"),
    "variants.minAccuracy": ("minAccuracy: 0.92", "minAccuracy: 0.9200001"),
    "gpu.clocks": ("clocks: auto", "clocks: off"),
    "behavior.tick": ("tick: 5s", "tick: 6s"),
    "behavior.scaleDown.stabilizationWindow": ("Window: auto", "Window: 60s"),
    "telemetry.staleAfter": ("staleAfter: 15s", "staleAfter: 16s"),
    "telemetry.fallbackReplicas": ("fallbackReplicas: 8", "fallbackReplicas: 9"),
}


def fields_of(schema: type[BaseModel]) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        said, inner = field.alias or name, field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from (f"{said}.{one}" for one in fields_of(inner))
        else:
            yield said


def test_each_field_that_a_fleet_is_run_by_is_known_here() -> None:
    assert set(OTHERWISE) == set(fields_of(Spec)) - {"targetRef", "carbon"}


@pytest.mark.parametrize(("old", "new"), OTHERWISE.values(), ids=OTHERWISE)
def test_each_field_that_a_fleet_is_run_by_shows_in_the_summary_and_in_json(old: str, new: str) -> None:
    assert FULL.count(old) == 1 or old.startswith("model:")
    before, after = parse(FULL), parse(FULL.replace(old, new))
    assert after.summary() != before.summary()
    assert after.model_dump(mode="json") != before.model_dump(mode="json")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("allow: [int8, fp16], ", "", "variants  every one of the profile; of accuracy 0.92 or more"),
        (", minAccuracy: 0.92", "", "variants  int8, fp16; of any accuracy"),
        ("  gpu: {clocks: auto}\n", "", "clocks    off: "),
        ("    budget: 1200W\n", "", "power     no budget for the fleet\n"),
        (
            "    whenOverBudget: [lowerClocks, cheaperVariant, shedLowPriority]\n",
            "",
            "where the load does not fit: only the number of replicas is held down",
        ),
    ],
)
def test_what_is_left_out_shows_as_what_holds_then(old: str, new: str, said: str) -> None:
    assert old in FULL
    assert said in parse(FULL.replace(old, new)).summary()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("latency: 50ms", "latency: 50", "spec.slo.latency = 50: allowed: a duration such as 50ms"),
        ("latency: 50ms", "latency: 0.1ms", "spec.slo.latency = '0.1ms': allowed: 1ms to 60s"),
        ("latency: 50ms", "latencyy: 50ms", "spec.slo.latencyy: unknown field; allowed: latency, percentile"),
        ("percentile: 99", "percentile: .nan", "spec.slo.percentile = nan: Input should be"),
        ("percentile: 99", "percentile: 100", "spec.slo.percentile = 100: Input should be less than 100"),
        ("errorBudget: 0.1%", "errorBudget: 0.1", "spec.slo.errorBudget = 0.1: allowed: a percentage"),
        ("budget: 1200W", "budget: 1200", "spec.power.budget = 1200: allowed: a power such as 20W"),
        ("[lowerClocks, cheaper", "[lowerClocks, lowerClocks, cheaper", "allowed: each step once"),
        ("lowerClocks", "raiseClocks", "spec.power.whenOverBudget.0 = 'raiseClocks': Input should be"),
        ("min: 1, max: 40", "min: 3, max: 2", "spec.replicas.max = 2: allowed: replicas.min (3) or more"),
        ("min: 1, max: 40", "max: '4'", "spec.replicas.max = '4': Input should be a valid integer"),
        ("min: 1, max: 40", "min: 0, max: 2", "spec.replicas.min = 0: Input should be greater"),
        ("maxSize: 64", "maxSize: 64.5", "spec.batching.maxSize = 64.5: Input should be a valid integer"),
        ("clocks: auto", "clocks: on", "spec.gpu.clocks = True: Input should be 'auto' or 'off'"),
        ("Window: auto", "Window: soon", "spec.behavior.scaleDown.stabilizationWindow = 'soon': allowed: a"),
        ("fallbackReplicas: 8", "fallbackReplicas: 99", "fallbackReplicas = 99: allowed: 1 to 40"),
        ("kind: PowerPolicy", "kind: Policy", "kind = 'Policy': Input should be 'PowerPolicy'"),
        ("  model: support-text\n", "", "spec.model: Field required"),
        ("    tick: 5s", "    tick: 5s\n    tick: 6s", "field 'tick' is there twice, again at line "),
        ("    tick: 5s", "    tick: 2026-02-30", "not YAML: day is out of range"),
        ("    tick: 5s", "    tick: " + "9" * 5000, "not YAML: Exceeds the limit"),
        ("spec:", "spec", "not YAML"),
        ("spec:", "---\nspec:", "several YAML documents, the second begins at line 5; allowed: one per file"),
        (FULL, "- a list", "a YAML mapping with apiVersion, kind, metadata, spec is expected"),
        (FULL, "", "a YAML mapping"),
    ],
)
def test_a_mistake_is_one_line_with_field_value_and_what_is_allowed(old: str, new: str, line: str) -> None:
    assert old in FULL
    with pytest.raises(UsageError) as raised:
        parse(FULL.replace(old, new, 1))
    said = str(raised.value)
    assert said.startswith("policy.yaml: ")
    assert line in said
    assert "\n" not in said


def test_a_mapping_may_be_merged_from_an_anchor() -> None:
    text = FULL.replace("metadata:", "metadata: &m", 1).replace("spec:", "spec:\n  <<: {model: other}", 1)
    assert parse(text) == parse(FULL)


def test_yaml_reads_off_as_false_and_the_policy_as_off() -> None:
    assert parse(FULL.replace("clocks: auto", "clocks: off")).spec.gpu.clocks == "off"


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.yaml: can't be read"):
        load_policy(tmp_path / "absent.yaml")


def test_a_fixed_fleet_is_the_policy_with_both_bounds_alike() -> None:
    spec = parse(FULL).with_fixed_replicas(3).spec
    assert (spec.replicas.min, spec.replicas.max, spec.fallback_replicas) == (3, 3, 3)


@given(st.floats(1e-5, 1e5))
def test_quantities_come_back_as_they_were_written(value: float) -> None:
    assert parse_duration_s(format_duration(value)) == pytest.approx(value, rel=1e-3)
    assert parse_power_w(format_power(value + 1e-3)) == pytest.approx(value + 1e-3, rel=1e-3)


@given(st.one_of(st.text(), st.none(), st.booleans(), st.lists(st.integers()), st.floats()))
def test_any_value_is_a_duration_or_a_value_error(value: object) -> None:
    try:
        assert parse_duration_s(value) >= 0
    except ValueError as error:
        assert "allowed: a duration" in str(error)  # noqa: PT017 - either way is right
