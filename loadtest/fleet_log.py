"""The fleet's side of a run: what the scaler recorded while the load went on.

Owns the reading of `fleet.jsonl` and `decisions.jsonl` and the arithmetic of joules over a span. Missing
values stay missing. Leaves the writing to the scaler. Called by `runs` and `summary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from minwatt.v1.errors import UsageError, one_line

Floats = NDArray[np.float64]

# Rows come once a second: a span is covered when rows reach to within this of both of its ends.
_COVERED_WITHIN_S = 1.5
FLEET_FILES = ("fleet.jsonl", "decisions.jsonl")
_MOVES = frozenset({"up", "down", "retune"})


class FleetRow(BaseModel):
    """One second of the fleet; what a report needs of it. None is unknown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at_s: float  # unix time
    replicas_ready: int | None = Field(default=None, ge=0)
    replicas_desired: int | None = Field(default=None, ge=0)
    batch_mean_texts: float | None = None
    watts: float | None = None
    watts_source: str | None = None
    joules_total: float | None = None  # of the whole fleet, idle included; never goes back


class Reason(BaseModel):
    """Why a decision was taken."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    message: str


class OperatingPoint(BaseModel):
    """What the replicas are told to run at."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int  # grows with each change


class DecisionRow(BaseModel):
    """One tick of the scaler."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at_s: float  # unix time
    action: str
    current_replicas: int | None = None
    desired_replicas: int | None = None
    operating_point: OperatingPoint | None = None
    reasons: tuple[Reason, ...] = ()

    @property
    def wanted(self) -> tuple[int | None, OperatingPoint | None]:
        return self.desired_replicas, self.operating_point


@dataclass(frozen=True, slots=True)
class FleetLog:
    """Rows by time."""

    fleet: tuple[FleetRow, ...]
    decisions: tuple[DecisionRow, ...]

    def moves(self) -> tuple[DecisionRow, ...]:
        """The decisions that changed what is wanted.

        While replicas that were asked for are still to start, each tick asks for them again: that is no move.
        """
        before = (None, *self.decisions)
        return tuple(
            row
            for last, row in zip(before, self.decisions, strict=False)
            if row.action in _MOVES and (last is None or row.wanted != last.wanted)
        )

    def between(self, start_s: float, end_s: float) -> FleetLog:
        """The rows of a span, unix times, both ends included."""
        return FleetLog(
            tuple(row for row in self.fleet if start_s <= row.at_s <= end_s),
            tuple(row for row in self.decisions if start_s <= row.at_s <= end_s),
        )


@dataclass(frozen=True, slots=True)
class UnknownJoules:
    """The log cannot say how much energy a span took."""

    reason: str


def joules_over_time(rows: Sequence[FleetRow]) -> tuple[Floats, Floats] | UnknownJoules:
    """Unix times, and the fleet's joules until each."""
    known = [(row.at_s, row.joules_total) for row in rows if row.joules_total is not None]
    if len(known) < 2:
        return UnknownJoules("the fleet log has no joules")
    at_s, joules = (np.array(column) for column in zip(*known, strict=True))
    if np.any(np.diff(at_s) < 0):
        return UnknownJoules("the clock was set back while the fleet's log was written")
    return at_s, joules


def joules_between(rows: Sequence[FleetRow], start_s: float, end_s: float) -> float | UnknownJoules:
    """Joules from `start_s` to `end_s` (unix), linear between rows.

    Where the rows end up to 1.5 s inside the span, the rest counts at the span's mean power.
    """
    read = joules_over_time(rows)
    if isinstance(read, UnknownJoules):
        return read
    at_s, joules = read
    first_s, last_s = max(start_s, float(at_s[0])), min(end_s, float(at_s[-1]))
    if first_s - start_s > _COVERED_WITHIN_S or end_s - last_s > _COVERED_WITHIN_S or last_s <= first_s:
        covered = f"{max(0.0, last_s - first_s):.1f} of {end_s - start_s:.1f} s"
        return UnknownJoules(f"the fleet log has joules for {covered} of the run")
    used_j = float(np.interp(last_s, at_s, joules) - np.interp(first_s, at_s, joules))
    return used_j * (end_s - start_s) / (last_s - first_s)


def read_fleet_log(path: Path) -> FleetLog:
    """`fleet.jsonl` at `path`, and `decisions.jsonl` beside it if there is one. Raises UsageError."""
    decisions = path.with_name(FLEET_FILES[1])
    return FleetLog(
        tuple(_read_rows(path, FleetRow)),
        tuple(_read_rows(decisions, DecisionRow)) if decisions.exists() else (),
    )


def write_fleet_log(folder: Path, log: FleetLog) -> None:
    """Both files, in the scaler's form, into `folder`."""
    tables: tuple[Sequence[BaseModel], ...] = (log.fleet, log.decisions)
    for name, rows in zip(FLEET_FILES, tables, strict=True):
        (folder / name).write_text("".join(f"{row.model_dump_json()}\n" for row in rows))


_Row = TypeVar("_Row", bound=BaseModel)


def _read_rows(path: Path, kind: type[_Row]) -> list[_Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable fleet log: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):  # its writer is at it, or was stopped there
            break
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise one_line(error, f"{path}:{number}") from error
    return rows
