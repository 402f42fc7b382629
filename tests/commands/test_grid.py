"""The grid of a profile: each cell once, and points that are differences of counters."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.outcomes import Outcome, Result
from minwatt.commands.grid import Cell, Grid, TooFewReportsError, idle_point, point_of, text_of
from scaler.report import Metered, ReplicaState, Report, Unmetered

CELL = Cell("int8", max_batch_texts=4, max_delay_s=0.01, text_tokens=16, sm_clock_mhz=1200)


def report(at_s: float, joules: float | None, batches: int = 0) -> Report:
    """After `batches` batches of two texts, 16 padded tokens each, 3 ms of compute a batch."""
    return Report(
        replica_id="r",
        received_s=at_s,
        state=ReplicaState.READY,
        power=Unmetered("no meter") if joules is None else Metered("modelled", "process:1", joules, None),
        completions_total=2 * batches,
        padded_tokens_total=32 * batches,
        batches_total=batches,
        batched_texts_total=2 * batches,
        busy_s_total=0.003 * batches,
    )


def answered(server_s: float) -> Outcome:
    return Outcome(
        0, 0, 1, "classify", 1, Result.COMPLETED, "OK", server_queue_s=0.0, server_compute_s=server_s
    )


@given(
    st.sets(st.sampled_from(["int8", "fp16"]), min_size=1),
    st.sets(st.integers(1, 64), min_size=1, max_size=4),
    st.sets(st.sampled_from([0.0, 0.005, 0.01]), min_size=1),
    st.sets(st.integers(3, 64), min_size=1, max_size=3),
    st.sets(st.integers(200, 2000), min_size=1, max_size=2),
)
def test_every_point_is_measured_once(
    variants: set[str], batches: set[int], delays_s: set[float], tokens: set[int], clocks: set[int]
) -> None:
    grid = Grid(tuple(variants), tuple(batches), tuple(delays_s), tuple(tokens), (0.5, 0.9), tuple(clocks))
    cells = grid.cells()
    assert len(set(cells)) == len(cells)
    assert {(cell.variant, cell.sm_clock_mhz, cell.max_batch_texts, cell.text_tokens) for cell in cells} == {
        (v, c, b, t) for v in variants for c in clocks for b in batches for t in tokens
    }
    assert all(cell.max_delay_s == 0 for cell in cells if cell.max_batch_texts == 1)
    assert len(grid) == 2 * len(cells) + len(variants)
    assert sorted(grid.places().values()) == list(range(2 * len(cells)))
    assert [cell.variant for cell in cells] == sorted(
        (cell.variant for cell in cells), key=grid.variants.index
    )  # one replica after the other


def test_a_point_is_what_was_counted_between_its_first_and_last_report() -> None:
    reports = [
        report(10.0, 100.0, batches=50),
        report(11.0, 101.0, batches=90),
        report(14.0, 106.0, batches=250),
    ]
    point = point_of(CELL, 101.0, reports, [answered(0.001 * k) for k in range(101)])
    assert (point.variant, point.sm_clock_mhz) == ("int8", 1200)
    assert point.completed_rps == pytest.approx(2 * 200 / 4)
    assert point.batch_mean_texts == pytest.approx(2)
    assert point.text_tokens == pytest.approx(16)
    assert point.compute_s_per_batch == pytest.approx(0.003)
    assert point.watts == pytest.approx(6 / 4)
    assert (point.p50_s, point.p99_s) == (pytest.approx(0.050), pytest.approx(0.099))


def test_unknown_watts_and_no_batches_are_none_not_zero() -> None:
    point = point_of(CELL, 1.0, [report(0.0, None), report(2.0, 5.0)], [])
    assert point.watts is None
    assert point.p99_s is None
    assert point.batch_mean_texts is None
    assert point.compute_s_per_batch is None


def test_idle_watts_are_those_between_two_reports() -> None:
    point = idle_point(Cell("int8", 1, 0.0, 1, 1410), report(0.0, 5.0), report(2.0, 115.0))
    assert (point.variant, point.sm_clock_mhz, point.offered_rps) == ("int8", 1410, 0)
    assert point.watts == pytest.approx(55)
    assert point.batch_mean_texts is None


def test_one_report_has_no_rates() -> None:
    with pytest.raises(TooFewReportsError, match="1 reports in the span; at least 2 are needed"):
        point_of(CELL, 1.0, [replace(report(0.0, 1.0))], [])


@given(st.integers(3, 200))
def test_a_text_has_the_tokens_asked_for(tokens: int) -> None:
    assert len(text_of(tokens).split()) + 2 == tokens
