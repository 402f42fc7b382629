"""What the rounds' figures add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.serving.figures import (
    AIMS,
    OVERHEAD,
    SINGLE,
    ceiling_name,
    failures,
    load_name,
    reading,
    summarise,
    to_engine,
    with_split,
)
from bench.serving.modes import MODES
from bench.serving.rounds import Reading, Round
from bench.serving.shots import Sample

SECONDS = st.floats(0.0, 10.0)


def a_sample(**changed: object) -> Sample:
    values: dict[str, object] = {
        "seconds": 2.0,
        "calls": 100,
        "failures": {},
        "p50_ms": 1.0,
        "p99_ms": 3.0,
        "server_cpu_s": 0.4,
        "client_cpu_s": 0.1,
        "engine_cpu_s": 0.2,
        "tokenizer_cpu_s": 0.1,
        "texts_per_call": 16,
        "latencies_ms": [],
    }
    return Sample(**{**values, **changed})  # type: ignore[arg-type]


def a_full_round(speed: float) -> Round:
    """Of a machine so fast: model at 0.9 of the ceiling, null engine at half the echo's CPU."""
    one: dict[str, Reading] = {ceiling_name(mode.name): {"texts_per_s": 10.0} for mode in MODES}
    one[ceiling_name(MODES[4].name)] = {"texts_per_s": 100.0 * speed}
    for concurrency in (8, 32, 64):
        one[load_name("model", "unary", concurrency)] = {
            "texts_per_s": 90.0 * speed,
            "tokens": 95.0,
            "padded_tokens": 100.0,
        }
    one[load_name("model", "batch16", 8)] = {"texts_per_s": 95.0 * speed}
    one[load_name("null", "unary", 8)] = {"server_cpu_ms": 0.2 / speed}
    one[load_name("echo", "unary", 8)] = {"server_cpu_ms": 0.4 / speed}
    one[SINGLE] = {"latency_to_engine": 1.3}
    one[OVERHEAD] = {"c1_p99_us": 80.0}
    return one


def test_a_sample_is_told_a_second_and_a_call() -> None:
    found = reading(a_sample(), tokens=80.0, padded_tokens=100.0)
    assert found["calls_per_s"] == 50.0
    assert found["texts_per_s"] == 800.0
    assert found["server_cpu_ms"] == pytest.approx(4.0)
    assert found["engine_cpu_ms"] == pytest.approx(2.0)
    assert (found["tokens"], found["padded_tokens"]) == (80.0, 100.0)


@pytest.mark.parametrize("calls", [0, 100])
def test_a_sample_with_failed_calls_has_no_figures_but_their_number(calls: int) -> None:
    found = reading(a_sample(calls=calls, failures={"14": 2, "8": 1}))
    assert found == {"failures": 3.0}
    assert failures([{"model unary c8": found}, {"model unary c8": found}]) == {"model unary c8": 6}


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_parts_of_the_servers_cpu_are_the_whole(
    server_s: float, engine_s: float, tokenizer_s: float, echo_s: float
) -> None:
    own = reading(a_sample(server_cpu_s=server_s, engine_cpu_s=engine_s, tokenizer_cpu_s=tokenizer_s))
    echo = reading(a_sample(server_cpu_s=echo_s))
    split = with_split({"model unary c8": own, "front unary c8": echo})["model unary c8"]
    parts = ("engine_cpu_ms", "tokenizer_cpu_ms", "rpc_cpu_ms", "rest_cpu_ms")
    assert sum(split[part] for part in parts) == pytest.approx(split["server_cpu_ms"])
    assert split["rpc_cpu_ms"] == echo["server_cpu_ms"]


def test_without_the_front_ends_own_figure_of_the_same_load_there_is_no_split() -> None:
    own = reading(a_sample())
    assert with_split({"model unary c8": own, "front unary c32": own})["model unary c8"] == own


def test_all_that_is_aimed_for_is_told_of_same_rounds() -> None:
    summary = summarise([a_full_round(speed) for speed in (1.0, 0.25, 4.0)])
    assert set(summary.ratios) == {aim.ratio for aim in AIMS}
    assert summary.best_mode == ceiling_name(MODES[4].name)
    medians = {name: found.median for name, found in summary.ratios.items()}
    assert medians == {
        "unary_c8_to_ceiling": pytest.approx(0.9),
        "unary_c32_to_ceiling": pytest.approx(0.9),
        "unary_c64_to_ceiling": pytest.approx(0.9),
        "batch16_to_ceiling": pytest.approx(0.95),
        "latency_c1_to_engine": pytest.approx(1.3),
        "null_cpu_to_echo": pytest.approx(0.5),
    }
    assert summary.padding_fraction is not None
    assert summary.padding_fraction.median == pytest.approx(0.05)
    assert summary.overhead_p99_us is not None
    assert summary.overhead_p99_us.median == 80.0


def test_what_was_not_measured_is_missing_and_not_zero() -> None:
    summary = summarise([{}])
    assert not summary.ratios
    assert summary.padding_fraction is None
    assert summary.overhead_p99_us is None


def test_a_call_is_divided_by_the_engines_time_for_its_own_text() -> None:
    latencies_ms = [(0, 2.0), (1, 30.0), (0, 4.0), (7, 1000.0)]
    assert to_engine(latencies_ms, {0: 1.0, 1: 10.0}) == 3.0
    assert to_engine([], {0: 1.0}) is None
