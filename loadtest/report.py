"""Reports from recorded runs: `report.json`, `report.html` and `report.md`.

The thin shell around `summary` (figures) and `document` (what stands in it): reads run folders, writes the
three files. Called by `cli` and by whoever compares runs of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loadtest.document import document, sources
from loadtest.runs import read_run, writing
from loadtest.summary import RunReport, summarise
from report.document import as_json, data_of
from report.markdown import as_markdown
from report.page import as_html
from report.provenance import Provenance, provenance

__all__ = ["Report", "RunReport", "load_run", "report_of", "write_report"]


class Report(BaseModel):
    """`report.json`."""

    model_config = ConfigDict(frozen=True)

    runs: tuple[RunReport, ...]
    provenance: Provenance

    def as_json(self) -> str:
        """As the file has it."""
        return as_json(document(self.runs, data_of(self), self.provenance))


def report_of(runs: Sequence[RunReport]) -> Report:
    """The runs in the order given; the first is the baseline."""
    return Report(runs=tuple(runs), provenance=provenance(sources(runs)))


def load_run(folder: Path) -> RunReport:
    """The report of the run recorded in `folder`. Raises UsageError when it holds none."""
    return summarise(read_run(folder))


def write_report(runs: Sequence[RunReport], out_dir: Path) -> Report:
    """Writes the three files of the runs, as `report_of` orders them.

    Raises UsageError where they can't be written.
    """
    report = report_of(runs)
    found = document(report.runs, data_of(report), report.provenance)
    with writing(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "report.json").write_text(as_json(found) + "\n", encoding="utf-8")
        (out_dir / "report.html").write_text(as_html(found), encoding="utf-8")
        (out_dir / "report.md").write_text(as_markdown(found), encoding="utf-8")
    return report
