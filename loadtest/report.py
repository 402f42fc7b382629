"""Reports from recorded runs: `report.json` and `report.html`.

The thin shell around `summary` (figures) and `html` (plots): reads run folders, writes the two files.
Called by `cli` and by whoever compares runs of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loadtest.html import page
from loadtest.provenance import made_by
from loadtest.runs import read_run, writing
from loadtest.summary import RunReport, summarise

__all__ = ["Report", "RunReport", "load_run", "write_report"]


class Report(BaseModel):
    """`report.json`."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RunReport, ...]


def load_run(folder: Path) -> RunReport:
    """The report of the run recorded in `folder`. Raises UsageError when it holds none."""
    return summarise(read_run(folder))


def write_report(runs: Sequence[RunReport], out_dir: Path) -> Report:
    """Writes `report.json` and `report.html` of the runs, in the order given; the first is the baseline.

    Raises UsageError where they can't be written.
    """
    report = Report(runs=tuple(runs))
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "report.json").write_text(report.model_dump_json(indent=2) + "\n")
        (out_dir / "report.html").write_text(page(report.runs, made_by()), encoding="utf-8")
    return report
