"""An interval holds its score, narrows with more examples, and covers what it claims to cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.scoring.intervals import Spread, bootstrap_f1, paired_difference, wilson

COUNTS = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).map(
    lambda row: (min(row), row[1], row[2])
)


@given(st.integers(1, 10_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilson_holds_the_share_within_0_and_1(counts: tuple[int, int]) -> None:
    found = wilson(*counts)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    more = wilson(counts[0] * 10, counts[1] * 10)
    assert more.high - more.low < found.high - found.low


def test_wilson_is_the_published_one() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998: 81/263 and 0/20.
    assert (round(wilson(81, 263).low, 4), round(wilson(81, 263).high, 4)) == (0.2553, 0.3662)
    assert (wilson(0, 20).low, round(wilson(0, 20).high, 4)) == (0, 0.1611)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500).map(lambda n: n + 1))
def test_a_paired_difference_holds_its_value_and_turns_with_its_sides(
    gained: int, lost: int, alike: int
) -> None:
    of = gained + lost + alike
    found, turned = paired_difference(gained, lost, of), paired_difference(lost, gained, of)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_a_paired_difference_is_the_published_one() -> None:
    # Agresti, Categorical Data Analysis: of 1600 ratings of a prime minister 150 and 86 changed.
    found = paired_difference(150, 86, 1600)
    assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (0.04, 0.021, 0.059)


@given(st.lists(COUNTS, min_size=1, max_size=30), st.integers(0, 2**32))
def test_the_bootstrap_holds_the_score_and_repeats_itself(
    counts: list[tuple[int, int, int]], seed: int
) -> None:
    found = bootstrap_f1(counts, seed, resamples=120)
    right, guessed, expected = (sum(column) for column in zip(*counts, strict=True))
    assert found.value == pytest.approx(2 * right / (guessed + expected) if guessed + expected else 0.0)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert bootstrap_f1(counts, seed, resamples=120) == found


def test_the_bootstrap_covers_the_true_f1_about_as_often_as_it_claims() -> None:
    # Each sentence has one entity, found and right with 0.7, else missed: F1 = 2 × 0.7 / (0.7 + 1).
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        hits = generator.random(150) < 0.7
        found = bootstrap_f1([(int(hit), int(hit), 1) for hit in hits], trial, resamples=300)
        covered += found.low <= 1.4 / 1.7 <= found.high
    assert 180 <= covered <= 200


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_spread_holds_every_round(rounds: list[float]) -> None:
    spread = Spread.of(rounds)
    assert spread.low <= spread.median <= spread.high
    assert all(spread.low <= one <= spread.high for one in rounds)
