"""`minwatt report compare`: what is compared with what, and how it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.runs import write_run
from minwatt import cli
from minwatt.commands.backtest_result import Backtest
from tests.loadtest.test_compare import run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    folders = tmp_path / "before" / "minwatt", tmp_path / "after" / "minwatt"
    write_run(folders[0], run(1, kind="poisson"))
    write_run(folders[1], run(2, latency_s=0.06, joules=0.01, kind="poisson"))
    return str(folders[0]), str(folders[1])


def compared(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "compare", *words])
    return int(ended.value.code or 0)


def test_two_runs_as_a_table_a_page_markdown_and_json(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, text = tmp_path / "out/compare.html", tmp_path / "out/compare.md"
    assert compared(*runs, "--html", str(page), "--markdown", str(text)) == 0
    said = capsys.readouterr().out
    for words in ("p99", "worse", "better", "joules: modelled", "loads differ in: seed"):
        assert words in said
    html = page.read_text()
    assert "energy a request" in html
    assert "Made " in html
    assert not [part for part in html.split('src="')[1:] if part.startswith("http")]
    rows = [line for line in text.read_text().splitlines() if line.startswith("| p99 |")]
    assert len(rows) == 1
    assert rows[0].endswith("| worse |")
    assert compared(*runs, "--json") == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    p99 = next(change for change in part["changes"] if change["name"] == "p99")
    assert p99["difference"] == pytest.approx(p99["b"] - p99["a"])
    assert p99["low"] <= p99["difference"] <= p99["high"]
    assert p99["verdict"] == "worse"


def test_the_folder_above_a_single_run_will_do(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(*(str(Path(one).parent) for one in runs)) == 0
    assert "p99" in capsys.readouterr().out


def test_joules_of_other_kinds_are_not_compared(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(1)
    bare = [outcome.__class__(**{**_fields(outcome), "energy_source": "nvml"}) for outcome in other.outcomes]
    write_run(tmp_path / "nvml", other.__class__(other.record, bare))
    assert compared(runs[0], str(tmp_path / "nvml")) == 0
    said = capsys.readouterr().out
    assert "joules are not compared" in said
    assert "energy a request" not in said


def _fields(value: object) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}  # type: ignore[attr-defined]


def test_two_backtests_differ_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = backtest(energy_j=1000.0, policy="a.yaml")
    second = backtest(energy_j=900.0, policy="b.yaml")
    files = tmp_path / "a.json", tmp_path / "b.json"
    for file, result in zip(files, (first, second), strict=True):
        file.write_text(result.model_dump_json())
    assert compared(*map(str, files), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    change = found["parts"][0]["changes"][0]
    assert (change["name"], change["difference"], change["verdict"]) == ("energy", -100.0, "no spread")
    assert "of different inputs: policy: a.yaml and b.yaml" in found["notes"]


def backtest(energy_j: float, policy: str) -> Backtest:
    row = {
        "name": "minwatt", "energy_j": energy_j, "idle_j": 1.0, "busy_j": energy_j - 1, "startup_j": 0.0,
        "over_slo_fraction": 0.0, "keeps_slo": True, "p50_ms": 1.0, "p99_ms": 2.0, "batch_mean": 1.0,
        "replicas_mean": 1.0, "replicas_max": 1, "reversals": 0, "underprovisioned_s": 0.0,
        "overprovisioned_s": 0.0,
    }  # fmt: skip
    assumptions = {
        "latency_basis": "measured", "watts_basis": "modelled", "start_up_basis": "measured",
        "clock_set": None, "clock_basis": None, "start_up_s": 1.0, "start_up_j": 1.0, "parked_w": 0.0,
        "arrival_cv": 1.0, "text_tokens": 16.0, "initial_replicas": 1, "service_noise": 0.0,
        "telemetry_delay_s": 1.0, "detail": "binned", "seed": 0,
    }  # fmt: skip
    return Backtest.model_validate(
        {
            "trace": "t.csv", "policy": policy, "profile": "p.yaml", "fleet_scale": 1.0, "bin_s": 1.0,
            "peak_rps": 1.0, "mean_rps": 1.0, "seconds": 1.0, "no_data_s": 0.0, "slo_ms": 50.0,
            "error_budget": 0.001, "carbon": None, "assumptions": assumptions, "contenders": [row],
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["none", "none"],
            "none: not there; allowed: a folder of `minwatt replay --out`, or a",
        ),
        (["{run}", "{json}"], "a backtest, and {run} is a load test; allowed: two of one kind"),
        (
            ["{json}", "{json}"],
            "{json}: neither a load test nor a backtest; allowed: what `minwatt backtest --json` prints, or",
        ),
        (["{empty}", "{run}"], "{empty}: holds 0 runs (none); allowed: the folder of one run"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], line: str, runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    names = {"run": runs[0], "json": str(tmp_path / "wrong.json"), "empty": str(tmp_path / "empty")}
    assert compared(*(word.format(**names) for word in words)) == 2
    said = capsys.readouterr().err
    assert line.format(**names) in said
    assert said.count("\n") == 1
