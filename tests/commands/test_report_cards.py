"""`minwatt report compare` of energy cards: what is noise, what is not, and what can't be compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.commands.compare_cards import comparison
from minwatt.v1.errors import UsageError
from modelkit.card.measurements import Card
from modelkit.scoring.intervals import bootstrap_percentiles
from report.comparison import Change
from tests.commands.cards import card, variant

NAMES = ("a/card.json", "b/card.json")


def changes(a: Card, b: Card, part: str = "int8") -> dict[str, Change]:
    (found,) = (one.changes for one in comparison(NAMES, a, b).parts if one.name == part)
    return {change.name: change for change in found}


def test_what_is_beyond_the_spread_is_told_from_what_is_not() -> None:
    found = changes(card(variant(right=2800)), card(variant(right=2700, slower=1.02)))
    assert found["accuracy"].verdict == "worse"
    assert found["entity F1"].verdict == "within noise"
    for name in ("p50 of a batch", "p99 of a batch", "texts/s", "energy, 1,000 texts", "watts"):
        assert found[name].verdict == "within noise"
    assert found["on disk"].verdict == "the same"
    slower = changes(card(), card(variant(slower=1.5)))
    assert slower["p99 of a batch"].difference == pytest.approx(60.0)
    for name in ("p50 of a batch", "p99 of a batch", "texts/s", "energy, 1,000 texts"):
        assert slower[name].verdict == "worse"
    grid = changes(card(), card(variant(slower=1.5)), "int8, batches of texts × tokens")
    assert grid["8 × 16: energy, 1,000 texts"].verdict == "worse"


def test_accuracy_on_other_texts_is_not_compared() -> None:
    found = comparison(NAMES, card(), card(split="dev"))
    assert {"accuracy", "entity F1"}.isdisjoint(one.name for part in found.parts for one in part.changes)
    assert "not compared: accuracy and F1: of other texts" in found.notes


def test_joules_of_other_meters_are_not_compared() -> None:
    found = comparison(NAMES, card(), card(source="modelled"))
    assert {"J", "W"}.isdisjoint(one.unit for part in found.parts for one in part.changes)
    assert found.watts == "rapl and modelled"


def test_few_rounds_are_no_spread() -> None:
    found = changes(card(), card(variant(slower=1.5), rounds=3))
    assert found["texts/s"].verdict == found["p50 of a batch"].verdict == "no spread"
    assert found["accuracy"].verdict == "within noise"


def test_a_card_of_before_has_latencies_without_spread() -> None:
    one = variant()
    own = one.own.model_copy(update={"p50_interval_s": None, "p99_interval_s": None})
    old = card(one.model_copy(update={"own": own}))
    assert changes(old, card(variant(slower=1.5)))["p99 of a batch"].verdict == "no spread"


def test_no_variant_in_common_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"b/card\.json: has no variant of a/card\.json; allowed: one of"):
        comparison(NAMES, card(), card(variant("fp32")))


ROUNDS = st.lists(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=5), min_size=1, max_size=7)


@given(ROUNDS, st.sampled_from([0.0, 50.0, 99.0, 100.0]))
def test_a_percentiles_interval_holds_it_and_stays_among_the_calls(
    rounds: list[list[float]], percent: float
) -> None:
    (found,) = bootstrap_percentiles(rounds, [percent], resamples=20)
    calls = [call for one in rounds for call in one]
    assert found.value == pytest.approx(np.percentile(calls, percent))
    assert min(calls) <= found.low <= found.value <= found.high <= max(calls)


def test_a_single_round_has_no_spread_and_two_alike_have_none() -> None:
    for rounds in ([[1.0, 2.0, 4.0]], [[1.0, 2.0, 4.0]] * 2):
        (found,) = bootstrap_percentiles(rounds, [50.0])
        assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)
