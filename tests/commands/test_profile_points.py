"""A measurement that was stopped goes on where it was, and with nothing but itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.commands.grid import Cell, Grid
from minwatt.commands.profile_points import (
    Heading,
    Loaded,
    Parked,
    PointsFile,
    Rows,
    Started,
    difference,
    parse,
    points_file,
)
from minwatt.v1.errors import UsageError
from scaler.profile import MeterNote, Point, ReplicaSetup, StartUp

GRID = Grid(("int8", "fp16"), (1, 4), (0.0, 0.01), (8, 16), (0.3, 0.9))
HEADING = Heading(
    model="tiny",
    model_version="1",
    device="a CPU",
    meter=MeterNote(source="modelled"),
    replica=ReplicaSetup(engine_threads=1),
    grid=GRID,
    point_s=4.0,
    seed=0,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
)
WANTED = [*GRID.places()]


def point(variant: str, tokens: float, offered_rps: float) -> Point:
    loaded = offered_rps > 0
    return Point(
        variant=variant,
        max_batch_texts=4,
        max_delay_s=0.0,
        text_tokens=tokens,
        offered_rps=offered_rps,
        completed_rps=offered_rps,
        p50_s=0.01 if loaded else None,
        p99_s=0.02 if loaded else None,
        batch_mean_texts=2.0 if loaded else None,
        compute_s_per_batch=0.003 if loaded else None,
        watts=1.0,
        duration_s=4.0,
    )


def started(variant: str, seconds: float = 2.0) -> Started:
    start_up = StartUp(basis="measured", seconds=seconds, joules=3 * seconds)
    return Started(start_up=start_up, point=point(variant, 1, 0))


def loaded(cell: Cell, load: float) -> Loaded:
    capacity_rps = 100.0 + cell.text_tokens
    measured = point(cell.variant, cell.text_tokens, load * capacity_rps)
    return Loaded(cell=cell, load=load, capacity_rps=capacity_rps, point=measured)


def test_the_file_stands_beside_the_profile() -> None:
    assert points_file(Path("out/a.yaml")) == Path("out/a.yaml.points.jsonl")


@given(st.permutations(WANTED), st.integers(0, len(WANTED)))
def test_what_is_done_and_what_is_missing_are_the_grid(order: list[tuple[Cell, float]], done: int) -> None:
    rows = Rows(tuple(loaded(cell, load) for cell, load in order[:done]))
    missing = [(cell, load) for cell in GRID.cells() for load in rows.missing(GRID, cell)]
    assert {*missing, *order[:done]} == {*WANTED}
    assert len(missing) + len(rows) == len(WANTED)
    for cell, _ in order[:done]:
        assert rows.capacity_rps(cell) == 100.0 + cell.text_tokens
    untouched = {cell for cell, _ in WANTED} - {cell for cell, _ in order[:done]}
    assert all(rows.capacity_rps(cell) is None for cell in untouched)


@given(st.permutations([*(loaded(*pair) for pair in WANTED), started("int8"), started("fp16", 3.0)]))
def test_the_points_come_in_the_order_of_the_sweep(steps: list[Started | Loaded]) -> None:
    rows = Rows((*steps, Parked(watts=15.0)))
    points = rows.points(GRID)
    assert len(points) == len(GRID) == len(rows)
    assert [one.variant for one in points[:2]] == ["int8", "fp16"]
    assert points[2:] == [loaded(*pair).point for pair in WANTED]
    assert rows.start_up().seconds == 3.0
    assert rows.parked == Parked(watts=15.0)


def test_a_stopped_measurement_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    first = PointsFile.open(path, HEADING)
    first.add(started("int8"))
    first.add(loaded(*WANTED[0]))
    later = HEADING.model_copy(update={"started_at": datetime(2026, 2, 2, tzinfo=UTC)})
    second = PointsFile.open(path, later)
    assert second.heading == HEADING
    assert second.rows == first.rows
    second.add(Parked(watts=1.5))
    assert parse(path.read_text(), "p") == (HEADING, second.rows)
    second.remove()
    assert not path.exists()


@given(st.integers(1, 200))
def test_a_line_cut_off_in_writing_is_measured_again(cut: int) -> None:
    whole = [HEADING, started("int8"), loaded(*WANTED[0])]
    text = "".join(one.model_dump_json() + "\n" for one in whole)
    assert parse(text[:-cut], "p") == (HEADING, Rows((started("int8"),)))


def test_a_file_with_a_cut_line_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    PointsFile.open(path, HEADING).add(started("int8"))
    path.write_text(path.read_text() + '{"step":"loa')
    PointsFile.open(path, HEADING).add(Parked(watts=1.0))
    assert parse(path.read_text(), "p")[1].rows == (started("int8"), Parked(watts=1.0))
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (HEADING.model_copy(update={"model": "large"}), "model = 'large', this is to be 'tiny'"),
        (HEADING.model_copy(update={"model_version": "2"}), "model_version = '2', this is to be '1'"),
        (HEADING.model_copy(update={"device": "a card"}), "device = 'a card', this is to be 'a CPU'"),
        (HEADING.model_copy(update={"seed": 7}), "seed = 7, this is to be 0"),
        (HEADING.model_copy(update={"point_s": 1.0}), "point_s = 1.0, this is to be 4.0"),
        (
            HEADING.model_copy(update={"meter": MeterNote(source="rapl")}),
            'meter = {"source":"rapl","parameters":{},"notes":""}, this is to be {"source":"modelled"',
        ),
        (
            HEADING.model_copy(update={"grid": replace(GRID, variants=("int8",))}),
            "--variants = int8, this is to be int8,fp16",
        ),
        (
            HEADING.model_copy(update={"grid": replace(GRID, delays_s=(0.0,))}),
            "--delays = 0.0, this is to be 0.0,0.01",
        ),
        (
            HEADING.model_copy(update={"grid": replace(GRID, text_tokens=(8,))}),
            "--tokens = 8, this is to be 8,16",
        ),
        (
            HEADING.model_copy(update={"grid": replace(GRID, clocks_mhz=(1410, 900))}),
            "--clocks = 1410,900, this is to be 0",
        ),
    ],
)
def test_another_measurement_s_points_are_refused(tmp_path: Path, other: Heading, named: str) -> None:
    path = tmp_path / "p.jsonl"
    PointsFile.open(path, other).add(started("int8"))
    before = path.read_text()
    with pytest.raises(UsageError) as error:
        PointsFile.open(path, HEADING)
    assert str(error.value).startswith(f"{path}: is of another measurement: {named}")
    assert str(error.value).endswith("; remove it or choose another --out")
    assert path.read_text() == before
    assert difference(HEADING, HEADING) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "line 1: (line): Invalid JSON"),
        ("points\n", "line 1: (line): Invalid JSON"),
        (HEADING.model_dump_json() + "\n{}\n", "line 2: (line): Unable to extract tag"),
        (
            HEADING.model_dump_json() + '\n{"step":"parked","watts":-1}\n',
            "line 2: parked.watts: Input should be greater than or equal to 0",
        ),
        (
            HEADING.model_dump_json() + "\n" + loaded(Cell("int4", 1, 0, 8), 0.3).model_dump_json() + "\n",
            "line 2: cell: not of the grid in line 1",
        ),
    ],
)
def test_a_file_that_is_none_is_one_line(text: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, "p.jsonl")
    said = str(error.value)
    assert said.startswith(f"p.jsonl: {named}")
    assert said.endswith("remove it or choose another --out")
    assert "\n" not in said
