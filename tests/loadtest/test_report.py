"""What a reader sees: the page is whole and safe, joules have a source, like is compared with like."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.fleet_log import DecisionRow, FleetLog, FleetRow, Reason
from loadtest.outcomes import Outcome, Result
from loadtest.report import load_run, write_report
from loadtest.runs import RunData, write_run
from loadtest.summary import RunReport, summarise
from loadtest.tables import headline, runs_table, warnings
from tests.loadtest.runs import START_S, completed, run

PROMISED = {
    "name", "requests", "completed", "refused", "failed", "p50_ms", "p99_ms", "slo_ms", "over_slo_fraction",
    "energy_j", "energy_source", "joules_per_request", "replicas_mean", "replicas_max", "decisions",
}  # fmt: skip


def named(name: str, joules: float, source: str = "modelled") -> RunData:
    rows = tuple(
        FleetRow(
            at_s=START_S + second,
            replicas_ready=1 + second // 5,
            joules_total=joules * second / 10,
            watts=joules / 10,
            watts_source=source,
        )
        for second in range(13)
    )
    reason = Reason(code="forecast", message="<b>more</b> traffic")
    decision = DecisionRow(
        at_s=START_S + 5, action="up", current_replicas=1, desired_replicas=2, reasons=(reason,)
    )
    data = run([completed(index / 10, 0.01) for index in range(100)], fleet=FleetLog(rows, (decision,)))
    return RunData(data.record.model_copy(update={"name": name}), data.outcomes, data.fleet)


def reports(*runs: RunData) -> list[RunReport]:
    return [summarise(data) for data in runs]


def test_a_report_is_two_files_from_recorded_runs(tmp_path: Path) -> None:
    for data in (named("fixed", 100.0), named("minwatt", 60.0)):
        write_run(tmp_path / data.record.name, data)
    written = write_report([load_run(tmp_path / name) for name in ("fixed", "minwatt")], tmp_path)
    fixed, scaled = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert (fixed["name"], scaled["name"]) == ("fixed", "minwatt")
    assert fixed.keys() >= PROMISED
    assert scaled["energy_j"] == pytest.approx(60.0)
    assert headline(written.runs) == ["minwatt used 40% fewer joules than fixed (modelled)"]
    page = (tmp_path / "report.html").read_text()
    assert "src=" not in page.split("</script>")[-1]
    assert "<b>more" not in page
    for title in (
        "Offered load and goodput",
        "Latency",
        "Replicas",
        "Batch size",
        "Power",
        "Energy a request",
    ):
        assert f"<h2>{title}" in page


def test_joules_that_were_saved_by_not_doing_the_job_are_no_savings() -> None:
    fixed, scaled = named("fixed", 100.0), named("minwatt", 60.0)
    first = summarise(fixed)
    missed = summarise(scaled).model_copy(update={"slo_met": False, "completed": first.completed - 5})
    (line,) = headline([first, missed])
    assert line.endswith("(modelled), but missed the SLO and completed 5 requests fewer")


def test_runs_without_a_fleet_log_say_what_is_not_shown(tmp_path: Path) -> None:
    write_report(reports(run([completed(0.1, 0.01)])), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "No run has a fleet log" in page
    assert "<h2>Replicas" not in page
    assert "idle not included" in page


def test_joules_of_unlike_meters_are_not_compared() -> None:
    assert headline(reports(named("fixed", 100.0, "rapl"), named("minwatt", 60.0, "modelled"))) == []
    shares = run([completed(0.1, 0.01)])
    assert headline(reports(named("fixed", 100.0, "rapl"), shares)) == []


def test_joules_of_unlike_loads_are_not_compared() -> None:
    fixed, scaled = named("fixed", 100.0), named("minwatt", 60.0)
    assert len(headline(reports(fixed, scaled))) == 1
    for change in ({"load": {"generate": "constant"}}, {"stopped_at_s": 5.0}):
        other = RunData(scaled.record.model_copy(update=change), scaled.outcomes, scaled.fleet)
        assert headline(reports(fixed, other)) == []


def test_the_table_never_prints_joules_without_their_source() -> None:
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(runs_table(reports(named("fixed", 100.0), named("minwatt", 60.0))))
    text = console.export_text()
    assert "100.0 J (modelled)" in text
    assert "60.0 J (modelled)" in text
    assert "-40.0% J" in text


def test_readers_are_warned() -> None:
    late = Outcome(0.0, 0.4, 1.4, "classify", 1, Result.FAILED, "DEADLINE_EXCEEDED")
    data = run([late])
    record = data.record.model_copy(update={"gap_s": 3.0, "stopped_at_s": 5.0})
    lines = warnings(reports(RunData(record, data.outcomes)))
    assert [line for line in lines if "the sender fell behind by up to 400 ms (p99 400 ms)" in line]
    assert [line for line in lines if "3.0 s of the trace have no data" in line]
    assert [line for line in lines if "stopped after 5.0 s" in line]
    assert [line for line in lines if "1 requests failed (DEADLINE_EXCEEDED 1)" in line]
    assert warnings(reports(run([completed(0.1, 0.01)]))) == []
