"""The leaderboard: what is run and kept, and how its verdicts and tables treat those that miss the SLO."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from minwatt.commands.backtest_result import Assumptions, Backtest, Row, beside_optimum
from minwatt.resources import resource
from scripts.leaderboard.board import Board, Filled, load
from scripts.leaderboard.cells import FLEETS, MADE, OFF, PINNED, Cell, Fleet, cells
from scripts.leaderboard.document import document
from scripts.leaderboard.imports import ROOT, files_of
from scripts.leaderboard.plots import ratios
from scripts.leaderboard.runs import Place, run_cell, write_policies
from scripts.leaderboard.verdicts import verdicts

A100, _, CPU = FLEETS
RESTS: dict[str, Any] = {
    "latency_basis": "published",
    "watts_basis": "assumed",
    "start_up_basis": "assumed",
    "clock_set": None,
    "clock_basis": None,
    "start_up_s": 45.0,
    "start_up_j": 4050.0,
    "parked_w": 0.0,
    "arrival_cv": 1.0,
    "text_tokens": 128.0,
    "initial_replicas": 20,
    "service_noise": 0.05,
    "telemetry_delay_s": 1.0,
    "detail": "binned",
    "seed": 0,
}


def row(name: str, energy_j: float, over: float = 0.0, reversals: int = 0, under_s: float = 0.0) -> Row:
    return Row(
        name=name,
        energy_j=energy_j,
        idle_j=0.0,
        busy_j=energy_j,
        startup_j=0.0,
        over_slo_fraction=over,
        keeps_slo=over <= 0.001,
        p50_ms=None,
        p99_ms=None,
        batch_mean=None,
        replicas_mean=1.0,
        replicas_max=1,
        reversals=reversals,
        underprovisioned_s=under_s,
        overprovisioned_s=0.0,
    )


def filled(cell: Cell, *rows: Row, per_bin: float = 5000.0) -> Filled:
    result = Backtest(
        trace=cell.trace,
        policy="p.yaml",
        profile="f.yaml",
        fleet_scale=10.0,
        bin_s=60.0,
        peak_rps=2000.0,
        mean_rps=10 * per_bin / 60,
        seconds=3600.0,
        no_data_s=0.0,
        slo_ms=50.0,
        error_budget=0.001,
        carbon=None,
        assumptions=Assumptions(**RESTS),
        contenders=beside_optimum(rows),
    )
    return Filled(cell, result, {})


def found(board: Board, target: str, where: str = "a100, clocks off") -> tuple[str, bool | None]:
    (one,) = (v for v in verdicts(board, [A100]) if v.target.startswith(target) and v.where == where)
    return one.found, one.met


def test_cells_have_names_of_their_own_and_homes_among_them() -> None:
    todo = list(cells(FLEETS, ["one", "two"], ["one"]))
    names = [cell.name for cell in todo]
    assert len(set(names)) == len(names)
    for cell in todo:
        for contender in cell.contenders:
            assert cell.home(contender).name in names
        assert (PINNED in cell.contenders) <= (cell.clocks != OFF)
        assert cell.clocks == OFF or cell.fleet.clock_sets


def test_what_leaves_the_clock_alone_is_run_once_for_all_clock_sets() -> None:
    cell = Cell(A100, "one", "A")
    assert cell.home("hpa").clocks == OFF
    assert cell.home("minwatt") is cell
    assert Cell(A100, "one", "A", arrival_cv=2.0).home("hpa").arrival_cv == 2.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    traces = tmp_path / "traces"
    traces.mkdir()
    text = "t_s,count\n" + "".join(f"{60 * i},{count}\n" for i, count in enumerate([200, 400, "", 300]))
    (traces / "short.csv.gz").write_bytes(gzip.compress(text.encode()))
    return Place(traces, tmp_path / "kept")


@pytest.fixture
def small(tmp_path: Path) -> Fleet:
    """Few operating points, hence few steady states to run."""
    text = (resource("examples/policy-a100.yaml")).read_text()
    batching = "maxSize: 64, maxDelay: 20ms"
    assert batching in text
    policy = tmp_path / "policy.yaml"
    policy.write_text(text.replace(batching, "maxSize: 4, maxDelay: 0s"))
    profile = resource("profiles/reference/a100-bert-base-int8.yaml")
    return Fleet("small", "small", profile, policy, 3, ())


def test_what_is_kept_is_not_run_again_until_its_inputs_change(place: Place, small: Fleet) -> None:
    cell = Cell(small, "short", contenders=("static", "keda-rate"))
    write_policies(small, place)
    assert len(run_cell(cell, place)) == 2
    assert run_cell(cell, place) == []
    board = load([cell], place, stale_too=False)
    (one,) = board.filled
    assert (board.absent, board.stale) == (0, ())
    assert one.result.assumptions.initial_replicas == 3
    static = one.row("static")
    assert static
    assert static.keeps_slo
    assert static.replicas_max == 3
    changed = gzip.decompress((place.traces / "short.csv.gz").read_bytes()).replace(b"400", b"500")
    (place.traces / "short.csv.gz").write_bytes(gzip.compress(changed))
    assert load([cell], place, stale_too=False).absent == 2
    stale = load([cell], place, stale_too=True).stale
    assert [one.split(": ")[0] for one in stale] == [cell.name] * 2
    assert len(run_cell(cell, place)) == 2


def test_the_code_that_a_result_depends_on_is_what_its_contender_imports() -> None:
    own = {
        name: {file.relative_to(ROOT).as_posix() for file in files_of([f"scaler.simulate.{name}"])}
        for name in ("minwatt", "run", "baselines.contenders")
    }
    assert {"scaler/simulate/minwatt.py", "scaler/control.py", "scaler/plan.py"} <= own["minwatt"]
    assert {"scaler/stabilise.py", "minwatt/v1/reflex.py"} <= own["minwatt"]
    assert not {"scaler/control.py", "scaler/simulate/minwatt.py"} & (
        own["run"] | own["baselines.contenders"]
    )
    for files in own.values():
        assert all((ROOT / file).is_file() for file in files)
        assert not any(file.startswith(("scaler/local/", "minwatt/commands/", "service/")) for file in files)
        assert not {"scaler/cli.py", "scaler/loop.py", "scaler/embedded_bus.py"} & files


def test_what_is_imported_by_one_that_is_left_out_is_left_out_too() -> None:
    whole, part = (files_of(["scaler.simulate.optimum"], without) for without in ((), ["scaler.settings"]))
    assert {file.stem for file in whole - part} >= {"settings", "stabilise", "forecast"}
    assert {file.stem for file in part} >= {"optimum", "slot_costs", "levers", "latency", "steady"}


def test_a_saving_counts_only_where_both_keep_the_slo() -> None:
    cell = Cell(A100, "one")
    one = filled(cell, row("minwatt", 40.0), row("optimum", 38.0), row("hpa", 100.0), row("kpa", 10.0, 0.5))
    assert one.saving("hpa") == pytest.approx(0.6)
    assert one.saving("kpa") is None
    assert one.saving("static") is None
    missing = filled(cell, row("minwatt", 40.0, 0.01), row("hpa", 100.0))
    assert missing.saving("hpa") is None


def test_a_target_is_met_or_missed_by_its_worst_trace() -> None:
    good = filled(Cell(A100, "good"), row("minwatt", 104.0), row("optimum", 100.0), row("hpa", 300.0))
    bad = filled(Cell(A100, "bad"), row("minwatt", 130.0), row("optimum", 100.0), row("hpa", 260.0))
    board = Board((good,), 0, ())
    assert found(board, "traces with 1,000") == ("1.040 of 1 traces", True)
    assert found(board, "at least 60% below the HPA")[1] is True
    board = Board((good, bad), 0, ())
    assert found(board, "the same traces: worst") == ("1.300 (bad)", False)
    assert found(board, "at least 60% below the HPA") == (
        "least 50.0% (bad), median 57.7% of 2 traces",
        False,
    )


def test_thin_traces_are_judged_by_the_tuned_hpa_and_not_by_the_optimum() -> None:
    def thin(trace: str, own_j: float) -> Filled:
        rows = (row("minwatt", own_j), row("optimum", 100.0), row("hpa-tuned", 160.0))
        return filled(Cell(A100, trace), *rows, per_bin=50)

    board = Board((thin("nasa_day", 150.0), thin("other", 200.0)), 0, ())
    assert found(board, "traces with 1,000") == ("not run", None)
    assert found(board, "thinly counted") == ("least saving 6.2% (nasa_day)", True)
    assert found(board, "no target: the other thin") == ("least saving -25.0% (other)", None)
    assert found(Board((thin("nasa_day", 170.0),), 0, ()), "thinly counted")[1] is False


def test_beside_a_saving_stands_what_the_optimum_saves() -> None:
    one = filled(Cell(A100, "one"), row("minwatt", 60.0), row("optimum", 50.0), row("hpa", 100.0))
    (verdict,) = (
        v
        for v in verdicts(Board((one,), 0, ()), [A100])
        if v.target.startswith("at least 60%") and v.found != "not run"
    )
    assert (verdict.met, verdict.optimum) == (False, "50.0%")
    assert "| 50.0% |" in document(Board((one,), 0, ()), [A100], [verdict], [])


def test_the_conservative_clocks_are_shown_beside_the_set_that_targets_are_for() -> None:
    met = {}
    for clocks in ("A", "conservative"):
        rows = (row("minwatt", 90.0), row("optimum", 80.0), row("keda-rate", 100.0))
        board = Board((filled(Cell(A100, "one", clocks=clocks), *rows),), 0, ())
        met[clocks] = found(board, "with the clock lever: at least 20%", f"a100, clocks {clocks}")
    assert met == {
        c: ("least 10.0% (one), median 10.0% of 1 traces", m)
        for c, m in (("A", False), ("conservative", None))
    }


def test_a_baseline_that_misses_the_slo_proves_nothing() -> None:
    one = filled(Cell(A100, "one"), row("minwatt", 40.0), row("optimum", 40.0), row("keda-rate", 90.0, 0.2))
    said, met = found(Board((one,), 0, ()), "clocks off: at least 5%")
    assert met is None
    assert "1 traces where one of the two misses the SLO" in said


def test_the_made_traces_judge_the_course_of_a_step_and_of_steady_load() -> None:
    step = filled(Cell(A100, MADE[0]), row("minwatt", 1.0, under_s=60.0), row("optimum", 1.0))
    steady = filled(Cell(A100, MADE[1]), row("minwatt", 1.0, reversals=6), row("optimum", 1.0))
    board = Board((step, steady), 0, ())
    assert found(board, "a 3 × step") == ("60 s with too few replicas; allowed 55 s", False)
    assert found(board, "at most one reversal") == ("6 in 60 min", True)


def test_the_document_marks_misses_and_says_what_is_not_there() -> None:
    one = filled(Cell(A100, "one"), row("minwatt", 110.0), row("optimum", 100.0), row("kpa", 50.0, 0.25))
    board = Board((one,), 3, ("a100.one: kpa",))
    text = document(board, [A100, CPU], verdicts(board, [A100]), ["![a](b.svg)"])
    assert "| one | 60.0 min, 833.3/s | 1.100 | 1.000 | 0.500 ✗ |" in text
    assert "| one | 60.0 min, 833.3/s | 0.000% | 0.000% | 25.000% ✗ |" in text
    assert "**Not complete:** 3 results" in text
    assert "- kpa: a100.one" in text
    assert "watts assumed" in text


def test_a_picture_has_a_mark_for_each_contender_but_the_optimum() -> None:
    one = filled(Cell(A100, "one"), row("minwatt", 110.0), row("optimum", 100.0), row("kpa", 50.0, 0.25))
    svg = ratios([one], "title")
    assert svg.count("<circle") == 2 * 2  # in the legend and in the plot
    assert svg.count('fill="white" stroke') == 1
