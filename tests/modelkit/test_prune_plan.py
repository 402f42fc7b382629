"""The plan of a removal: laws of its sum and its loss, and what may be said of a measured speed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.compress.prune_plan import plan_removal, scanned_counts
from modelkit.compress.prune_report import (
    Layer,
    PruneReport,
    Sensitivity,
    Size,
    Speed,
    Stage,
    prune_table,
    sensitivity_table,
    verdict,
)
from modelkit.compress.prune_speed import speed_of
from modelkit.scoring.intervals import Spread

LOSSES = st.floats(-0.1, 5.0)


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[dict[int, float]], list[int]]:
    """Curves over all counts of some small layers, and the pieces of each."""
    present = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return [{count: draw(LOSSES) for count in range(1, pieces)} for pieces in present], present


@given(layers(), st.data())
def test_no_other_plan_of_as_many_pieces_loses_less(
    given_layers: tuple[list[dict[int, float]], list[int]], data: st.DataObject
) -> None:
    curves, present = given_layers
    most = sum(pieces - 1 for pieces in present)
    wanted = data.draw(st.integers(0, most))

    def loss(plan: tuple[int, ...] | list[int]) -> float:
        # What a smaller removal costs, a larger one costs too.
        return sum(
            max([0.0, *(curve[one] for one in range(1, count + 1))])
            for curve, count in zip(curves, plan, strict=True)
        )

    plan = plan_removal(curves, present, wanted)
    assert sum(plan) == wanted
    assert all(0 <= gone < pieces for gone, pieces in zip(plan, present, strict=True))
    others = [one for one in product(*map(range, present)) if sum(one) == wanted]
    assert loss(plan) <= min(map(loss, others)) + 1e-6


@given(st.integers(1, 6), st.integers(2, 12), st.data())
def test_layers_that_are_alike_give_up_alike(number: int, pieces: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, number * (pieces - 1)))
    plan = plan_removal([{pieces - 1: 1.0}] * number, [pieces] * number, wanted)
    assert sum(plan) == wanted
    assert max(plan) - min(plan) <= 1


def test_a_layer_that_loses_much_keeps_its_pieces() -> None:
    assert plan_removal([{3: 0.0}, {3: 9.0}], [4, 4], 3) == [3, 0]


def test_more_than_was_tried_is_refused() -> None:
    with pytest.raises(ValueError, match="8 of 8 are to go; at most 6 can"):
        plan_removal([{3: 0.0}, {3: 9.0}], [4, 4], 8)


@given(st.integers(0, 5000), st.lists(st.floats(0.01, 0.99), max_size=4))
def test_what_is_tried_leaves_a_piece(pieces: int, shares: list[float]) -> None:
    assert all(1 <= count < pieces for count in scanned_counts(pieces, shares))


def speed(low: float, noise: float) -> Speed:
    spread = Spread(median=low * 1.1, low=low, high=low * 1.2)
    return Speed(texts=8, ratio=spread, noise=Spread(median=1.0, low=1 / noise, high=noise))


def size(products: int = 100, zeros: float = 0.0) -> Size:
    return Size(parameters=products, bytes=4 * products, products=products, zeros=zeros)


def test_zeros_are_no_speed_up_unless_every_round_was_faster() -> None:
    whole, sparse = size(), size(zeros=0.5)
    for slow in ((speed(0.9, 1.0),), (speed(1.05, 1.1),), (speed(2.0, 1.1), speed(1.0, 1.0)), ()):
        told = verdict(slow, whole, sparse)
        assert told.startswith("50% of the matrices' weights are zero, which is no speed-up: dense kernels")
    assert "and this runtime ran faster: 1.32 ×" in verdict((speed(1.2, 1.1),), whole, sparse)


def test_a_smaller_network_is_called_faster_only_beyond_the_noise() -> None:
    whole, lean = size(), size(50)
    assert verdict((speed(1.2, 1.1),), whole, lean).startswith(
        "faster: 1.32 × (1.20 to 1.44) on batches of 8"
    )
    assert verdict((speed(1.2, 1.3),), whole, lean).startswith("no speed-up beyond the noise")


@given(st.lists(st.tuples(*[st.floats(0.1, 10.0)] * 3), min_size=1, max_size=9))
def test_a_ratio_compares_what_ran_in_the_same_round(rounds: list[tuple[float, float, float]]) -> None:
    unpruned, again, pruned = zip(*rounds, strict=True)
    found = speed_of(8, {"unpruned": unpruned, "unpruned again": again, "pruned": pruned})
    ratios = [one / other for one, other in zip(unpruned, pruned, strict=True)]
    assert (found.ratio.low, found.ratio.high) == (min(ratios), max(ratios))
    assert found.noise.low <= found.noise.median <= found.noise.high


def test_the_tables_fit_eighty_columns() -> None:
    from rich.console import Console

    part = Sensitivity(part="rank ffn.out", layer=5, pieces=128, share=0.5, score_lost=0.123, loss_rise=1.234)
    layers = (Layer(heads=12, width=1536, rank_in=None, rank_out=128),) * 6
    report = PruneReport(
        model="lean",
        version="1",
        pruned_from="mine 1",
        importance="fisher",
        before=size(),
        after=size(50),
        layers_before=layers,
        layers=layers,
        stages=(
            Stage(stage="unpruned", dev={"intent.accuracy": 0.9}),
            Stage(stage="pruned", dev={"intent.accuracy": 0.8}),
        ),
        unpruned_tasks=(),
        tasks=(),
        speed=(speed(1.2, 1.1),),
        verdict=verdict((speed(1.2, 1.1),), size(), size(50)),
        sensitivity=(part,) * 3,
        notes=(),
    )
    console = Console(width=80, record=True, file=None)
    with console.capture() as captured:
        console.print(sensitivity_table(report.sensitivity))
        console.print(prune_table(report))
    shown = captured.get()
    assert "9,216" in shown
    assert "50% 12.3 1.23" in shown
    assert "…" not in shown
