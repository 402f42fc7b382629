"""Only figures of the same round meet, and each round measures everything once."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.serving.rounds import Figure, Round, Spread, of_rounds, orders, same_round_ratio, steadiest_best

OVER, UNDER = Figure("server", "rate"), Figure("ceiling", "rate")
POSITIVE = st.floats(0.01, 1e6)


def a_round(over: float | None, under: float | None) -> Round:
    values = {"server": over, "ceiling": under}
    return {name: {"rate": value} for name, value in values.items() if value is not None}


@given(st.lists(st.text(min_size=1), unique=True, max_size=8), st.integers(0, 5), st.integers())
def test_every_round_measures_everything_once(names: list[str], rounds: int, seed: int) -> None:
    drawn = orders(names, rounds, seed)
    assert len(drawn) == rounds
    assert all(sorted(order) == sorted(names) for order in drawn)
    assert drawn == orders(names, rounds, seed)


def test_the_order_is_drawn_anew_each_round() -> None:
    drawn = orders([str(number) for number in range(30)], 5, seed=1)
    assert len({tuple(order) for order in drawn}) == 5


@given(st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE), min_size=1, max_size=9))
def test_a_machine_that_drifts_between_rounds_moves_no_ratio(
    rounds: list[tuple[float, float, float]],
) -> None:
    calm = same_round_ratio([a_round(over, under) for over, under, _ in rounds], OVER, UNDER)
    drifting = same_round_ratio(
        [a_round(over * speed, under * speed) for over, under, speed in rounds], OVER, UNDER
    )
    assert calm is not None
    assert drifting is not None
    assert drifting.median == pytest.approx(calm.median)
    assert drifting.least == pytest.approx(calm.least)
    assert drifting.most == pytest.approx(calm.most)


@given(st.lists(st.tuples(st.none() | POSITIVE, st.none() | POSITIVE), max_size=9))
def test_a_ratio_is_of_the_rounds_that_have_both(rounds: list[tuple[float | None, float | None]]) -> None:
    found = same_round_ratio([a_round(*one) for one in rounds], OVER, UNDER)
    quotients = [over / under for over, under in rounds if over is not None and under is not None]
    if not quotients:
        assert found is None
    else:
        assert found == Spread(median(quotients), min(quotients), max(quotients), len(quotients))


def test_nothing_is_divided_by_zero() -> None:
    assert same_round_ratio([a_round(1.0, 0.0)], OVER, UNDER) is None


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=9))
def test_the_best_has_the_greatest_median_and_is_one_for_all_rounds(
    rounds: list[tuple[float, float]],
) -> None:
    found = [a_round(*one) for one in rounds]
    best = steadiest_best(found, [OVER, UNDER])
    assert best is not None
    medians = [of_rounds(found, figure) for figure in (OVER, UNDER)]
    chosen = of_rounds(found, best)
    assert chosen is not None
    assert chosen.median == max(one.median for one in medians if one is not None)
