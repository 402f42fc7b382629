"""`OUT.points.jsonl`: the raw points of a measurement under way, so that it can go on where it stopped.

Owns the file's form, what a measurement must share with the file to go on with it, and what is still to
measure. The first line says what is measured; each line after it is one finished step. Measuring is
`measure`'s matter. Called by `profile`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from minwatt.commands.grid import Cell, Grid
from minwatt.v1.errors import UsageError
from scaler.profile import MeterNote, Point, ReplicaSetup, StartUp

_WAY_OUT = "remove it or choose another --out"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Heading(_Frozen):
    """What is measured. All but `started_at` must be the same for a measurement to go on."""

    format: Literal[1] = 1
    kind: Literal["ProfilePoints"] = "ProfilePoints"
    model: str
    model_version: str
    device: str
    meter: MeterNote
    replica: ReplicaSetup
    grid: Grid
    point_s: float
    seed: int
    started_at: datetime


class Started(_Frozen):
    """A variant's replica came up, and was measured idle."""

    step: Literal["started"] = "started"
    start_up: StartUp
    point: Point


class Loaded(_Frozen):
    """A cell under one load, a fraction of `capacity_rps`."""

    step: Literal["loaded"] = "loaded"
    cell: Cell
    load: float
    capacity_rps: float
    point: Point


class Parked(_Frozen):
    """What the device draws with no replica on it."""

    step: Literal["parked"] = "parked"
    watts: float = Field(ge=0)


Row = Annotated[Started | Loaded | Parked, Field(discriminator="step")]
_ROW: TypeAdapter[Started | Loaded | Parked] = TypeAdapter(Row)


@dataclass(frozen=True, slots=True)
class Rows:
    """The finished steps."""

    rows: tuple[Started | Loaded | Parked, ...] = ()

    def started(self, variant: str) -> Started | None:
        found = (row for row in self.rows if isinstance(row, Started) and row.point.variant == variant)
        return next(found, None)

    def capacity_rps(self, cell: Cell) -> float | None:
        """What loads of that cell are fractions of; measured once."""
        found = (row.capacity_rps for row in self.rows if isinstance(row, Loaded) and row.cell == cell)
        return next(found, None)

    def missing(self, grid: Grid, cell: Cell) -> list[float]:
        """The cell's loads that are still to be measured."""
        done = {row.load for row in self.rows if isinstance(row, Loaded) and row.cell == cell}
        return [load for load in grid.loads if load not in done]

    @property
    def parked(self) -> Parked | None:
        return next((row for row in self.rows if isinstance(row, Parked)), None)

    def points(self, grid: Grid) -> list[Point]:
        """In the order of the sweep, whatever the order they were measured in."""
        places = grid.places()
        idle = [started.point for name in grid.variants if (started := self.started(name)) is not None]
        loaded = [row for row in self.rows if isinstance(row, Loaded)]
        loaded.sort(key=lambda row: places[row.cell, row.load])
        return idle + [row.point for row in loaded]

    def start_up(self) -> StartUp:
        """The slowest of the variants'."""
        return max(
            (row.start_up for row in self.rows if isinstance(row, Started)), key=lambda one: one.seconds
        )

    def __len__(self) -> int:
        """Points."""
        return sum(not isinstance(row, Parked) for row in self.rows)


def points_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.points.jsonl")


def parse(text: str, where: str) -> tuple[Heading, Rows]:
    """A file's heading and steps. A last line without its end was cut off in writing, and is left out.

    Raises UsageError: one line with file, line and field.
    """
    lines = text.split("\n")[:-1]
    number = 1
    try:
        heading = Heading.model_validate_json(lines[0] if lines else "")
        places = heading.grid.places()
        rows: list[Started | Loaded | Parked] = []
        for number, line in enumerate(lines[1:], start=2):
            row = _ROW.validate_json(line)
            if isinstance(row, Loaded) and (row.cell, row.load) not in places:
                raise UsageError(f"{where}: line {number}: cell: not of the grid in line 1; {_WAY_OUT}")
            rows.append(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(line)"
        raise UsageError(f"{where}: line {number}: {field}: {first['msg']}; {_WAY_OUT}") from error
    return heading, Rows(tuple(rows))


def difference(found: Heading, wanted: Heading) -> str | None:
    """The first thing in which a file's measurement differs from the wanted; None if it is the same."""
    pairs = [
        (name, getattr(found, name), getattr(wanted, name))
        for name in Heading.model_fields
        if name not in {"grid", "started_at"}
    ]
    pairs += [(_flag(field.name), *_both(found, wanted, field.name)) for field in fields(Grid)]
    for name, before, now in pairs:
        if before != now:
            return f"{name} = {_shown(before)}, this is to be {_shown(now)}"
    return None


def _both(found: Heading, wanted: Heading, field: str) -> tuple[object, object]:
    return getattr(found.grid, field), getattr(wanted.grid, field)


def _flag(field: str) -> str:
    """The grid's fields by the names of their flags."""
    return "--" + {"text_tokens": "tokens"}.get(field, field).removesuffix("_s").removesuffix("_mhz")


def _shown(value: object) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else repr(value)


class PointsFile:
    """The file, open for one measurement: each finished step is on disk before the next begins."""

    def __init__(self, path: Path, heading: Heading, rows: Rows) -> None:
        self.path = path
        self.heading = heading
        self.rows = rows

    @classmethod
    def open(cls, path: Path, wanted: Heading) -> PointsFile:
        """Goes on with the file that is there, or begins one. Raises UsageError: another measurement's."""
        heading, rows = wanted, Rows()
        if path.exists():
            heading, rows = parse(_read(path), str(path))
            if (what := difference(heading, wanted)) is not None:
                raise UsageError(
                    f"{path}: is of another measurement: {what}; remove it or choose another --out"
                )
        opened = cls(path, heading, rows)
        _write(path, [heading, *rows.rows])  # anew: a line may have been cut off
        return opened

    def add(self, row: Started | Loaded | Parked) -> None:
        self.rows = Rows((*self.rows.rows, row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        self.path.unlink()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text; {_WAY_OUT}") from error


def _write(path: Path, lines: Iterable[BaseModel]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("".join(map(_line, lines)), encoding="utf-8")
    fresh.replace(path)


def _line(row: BaseModel) -> str:
    return row.model_dump_json() + "\n"
