"""What became of each request, and its file: `results.csv.gz`, one row a request.

Raw on purpose: every figure of a report is computed from these rows, later and again. Written and read
by `runs`; made by `sender`.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from minwatt.v1.errors import UsageError


class Result(StrEnum):
    COMPLETED = "completed"
    REFUSED = "refused"  # the server answered no and said why (google.rpc details)
    FAILED = "failed"  # no answer: deadline passed, connection lost, internal error


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times count from the run's start; without an answer server times and joules are None."""

    planned_s: float
    sent_s: float
    latency_s: float  # from the planned time to the answer, refusal or failure
    task: str
    texts: int
    result: Result
    status: str  # gRPC status code
    detail: str = ""  # the server's message when it refused or failed
    server_queue_s: float | None = None
    server_compute_s: float | None = None
    batch_size: int | None = None  # texts in the batch it rode in
    tokens: int | None = None
    energy_j: float | None = None
    energy_source: str = ""

    @property
    def lag_s(self) -> float:
        """How much later than planned the sender sent it."""
        return max(0.0, self.sent_s - self.planned_s)

    @property
    def server_s(self) -> float | None:
        """Seconds at the server: queue + compute."""
        if self.server_queue_s is None or self.server_compute_s is None:
            return None
        return self.server_queue_s + self.server_compute_s


COLUMNS = tuple(field.name for field in dataclasses.fields(Outcome))
_DETAIL_CHARACTERS = 200


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """All rows, in the order given. Times are rounded to the microsecond, joules to the microjoule."""
    with gzip.open(path, "wt", newline="", compresslevel=5) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(outcome, name)) for name in COLUMNS] for outcome in outcomes)


def read_outcomes(path: Path) -> list[Outcome]:
    """The rows of a file that `write_outcomes` wrote."""
    try:
        with gzip.open(path, "rt", newline="") as file:
            return _parse(file, path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a readable results file: {error}") from error


def _parse(file: io.TextIOBase, path: Path) -> list[Outcome]:
    reader = csv.DictReader(file)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise UsageError(f"{path}:1: header is not that of a results file: {','.join(COLUMNS)}")
    try:
        return [_outcome(row) for row in reader]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}:{reader.line_num}: {error}") from error


def _outcome(row: dict[str, str]) -> Outcome:
    return Outcome(
        planned_s=float(row["planned_s"]),
        sent_s=float(row["sent_s"]),
        latency_s=float(row["latency_s"]),
        task=row["task"],
        texts=int(row["texts"]),
        result=Result(row["result"]),
        status=row["status"],
        detail=row["detail"],
        server_queue_s=_optional_float(row["server_queue_s"]),
        server_compute_s=_optional_float(row["server_compute_s"]),
        batch_size=_optional_int(row["batch_size"]),
        tokens=_optional_int(row["tokens"]),
        energy_j=_optional_float(row["energy_j"]),
        energy_source=row["energy_source"],
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value)[:_DETAIL_CHARACTERS]


def _optional_float(cell: str) -> float | None:
    return float(cell) if cell else None


def _optional_int(cell: str) -> int | None:
    return int(cell) if cell else None
