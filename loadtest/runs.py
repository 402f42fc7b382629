"""The folder of one run: `run.json` (what was asked), `results.csv.gz` (what became of it), the fleet's log
of it.

Owns the files and their form. Reports are computed from these folders alone, at once or years later.
Written by `cli`, read by `report`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.fleet_log import FLEET_FILES, FleetLog, read_fleet_log, write_fleet_log
from loadtest.outcomes import Outcome, read_outcomes, write_outcomes
from minwatt.v1.errors import UsageError, one_line

RUN_FILE = "run.json"
RESULTS_FILE = "results.csv.gz"


class RunRecord(BaseModel):
    """What a run was asked to do, and when it was done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    target: str
    started_unix_s: float  # the plan's zero
    duration_s: float  # of the plan
    planned: int  # requests
    stopped_at_s: float | None = None  # the user ended the run early
    aborted: str = ""  # why, where too many answers were over the SLO
    gap_s: float = 0.0  # of the trace without data, hence without arrivals
    slo_s: float | None = None
    deadline_s: float
    connections: int
    load: dict[str, str]  # how the arrivals and texts were made, as given

    @property
    def span_s(self) -> float:
        """How long load was sent."""
        return self.duration_s if self.stopped_at_s is None else min(self.stopped_at_s, self.duration_s)


@dataclass(frozen=True, slots=True)
class RunData:
    """A run as recorded; `fleet` is None when no fleet log was given."""

    record: RunRecord
    outcomes: list[Outcome]
    fleet: FleetLog | None = None


def make_folder(folder: Path) -> None:
    """Creates the folder and tries to write there: before the load is sent, not after. Raises UsageError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write_run(folder: Path, run: RunData) -> None:
    """Writes the run's files; creates the folder. Raises UsageError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in (RUN_FILE, *FLEET_FILES):
            (folder / left_over).unlink(missing_ok=True)
        write_outcomes(folder / RESULTS_FILE, run.outcomes)
        if run.fleet is not None:
            write_fleet_log(folder, run.fleet)
        # Last, so that a folder with a run.json is whole.
        (folder / RUN_FILE).write_text(run.record.model_dump_json(indent=2) + "\n")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes a disk's refusal the one line of a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"--out: {error.filename or folder}: can't be written ({error.strerror})") from error


def read_run(folder: Path) -> RunData:
    """The run in `folder`. Raises UsageError when it is none."""
    path = folder / RUN_FILE
    try:
        record = RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{folder}: not the folder of a run: {error}") from error
    except ValidationError as error:
        raise one_line(error, str(path)) from error
    fleet = folder / FLEET_FILES[0]
    log = read_fleet_log(fleet) if fleet.exists() else None
    return RunData(record, read_outcomes(folder / RESULTS_FILE), log)


def run_folders(out_dir: Path) -> list[Path]:
    """The folders of runs directly under `out_dir`."""
    return sorted(path.parent for path in out_dir.glob(f"*/{RUN_FILE}"))
