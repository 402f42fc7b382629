"""Policies that nothing in a profile can meet are refused with what would be allowed, and nothing else is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.resources import resource
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import format_duration, parse_duration_s
from scaler.documents import parse_document
from scaler.feasible import check_feasible
from scaler.plan import Planner
from scaler.policy import Policy
from scaler.profile import load_profile
from scaler.settings import Settings

PROFILE = load_profile(resource("profiles/reference/a100-bert-base-int8.yaml"))
TEXT = resource("examples/policy-a100.yaml").read_text()


def check(old: str = "", new: str = "") -> None:
    assert old in TEXT
    policy = parse_document(TEXT.replace(old, new), Policy, "policy.yaml")
    check_feasible(policy, PROFILE, "policy.yaml", "profile.yaml")


def refusal(old: str, new: str) -> str:
    with pytest.raises(UsageError) as caught:
        check(old, new)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_examples_policy_is_not_refused_and_one_replica_carries_something() -> None:
    check()
    settings = Settings(parse_document(TEXT, Policy, "policy.yaml"), PROFILE)
    assert Planner(settings.tables).most_tps(1, PROFILE.text_tokens) > 0


@given(st.floats(1.0, 5.0))
def test_an_slo_is_refused_just_below_what_is_allowed(latency_ms: float) -> None:
    try:
        check("latency: 50ms", f"latency: {latency_ms:.4f}ms")
    except UsageError as error:
        allowed = re.search(r"allowed: (\S+) or more", str(error))
        assert allowed
        assert parse_duration_s(allowed[1]) > latency_ms / 1000
        check("latency: 50ms", f"latency: {allowed[1]}")


def test_what_is_allowed_is_not_much_more_than_the_fastest_there_is() -> None:
    said = refusal("latency: 50ms", "latency: 1ms")
    alone_s = PROFILE.engine(PROFILE.text_tokens).service_s(1)
    assert f"a text alone computes for {format_duration(alone_s)}" in said
    allowed = re.search(r"allowed: (\S+) or more", said)
    assert allowed
    assert parse_duration_s(allowed[1]) < 3 * alone_s


def test_a_budget_must_let_the_fewest_replicas_idle() -> None:
    check("budget: 12kW", "budget: 55W")
    assert "one replica draws 55W idle" in refusal("budget: 12kW", "budget: 54W")
    two = TEXT.replace("min: 1", "min: 2").replace("budget: 12kW", "budget: 109W")
    with pytest.raises(UsageError, match=r"2 replicas draw 110W idle .* allowed: 110W or more"):
        check_feasible(parse_document(two, Policy, "p.yaml"), PROFILE, "p.yaml", "f.yaml")


def test_a_variant_must_be_allowed_and_known_to_be_accurate_enough() -> None:
    assert "profile.yaml has int8" in refusal("allow: [int8]", "allow: [fp16]")
    assert "int8 (accuracy unknown)" in refusal("allow: [int8]", "allow: [int8], minAccuracy: 0.9")


def test_the_profile_must_be_of_the_policys_model() -> None:
    said = refusal("model: bert-base", "model: other")
    assert said == "profile.yaml: model = 'bert-base': policy.yaml asks for 'other'"
