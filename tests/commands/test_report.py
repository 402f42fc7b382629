"""`minwatt report compare`: what is compared with what, and how it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.runs import write_run
from minwatt import cli
from minwatt.commands.backtest_result import Backtest
from minwatt.resources import default_profile
from tests.commands.cards import card
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
    for words in ("p99", "worse", "better", "Watts: modelled", "loads differ in: seed"):
        assert words in said
    html = page.read_text()
    assert "energy a request" in html
    assert "Made " in html
    assert not [part for part in html.split('src="')[1:] if part.startswith("http")]
    rows = [line for line in text.read_text().splitlines() if line.startswith("| p99 |")]
    assert len(rows) == 1
    assert rows[0].endswith("| worse |")
    assert compared(*runs, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["provenance"]["watts"].startswith("modelled")
    (part,) = found["parts"]
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


@pytest.fixture
def files(runs: tuple[str, str], tmp_path: Path) -> dict[str, str]:
    """One of each kind, and what is none."""
    texts = {
        "backtest": backtest(energy_j=1.0, policy="a.yaml").model_dump_json(),
        "card": card().model_dump_json(),
        "profile": default_profile().read_text(),
        "wrong": "{}",
        "list": "[1, 2]",
        "broken": "{not json",
        "yaml": "a: [",
        "report": '{"runs": []}',
        "newer": '{"kind": "Profile", "format": 3}',
        "torn": '{"contenders": [], "assumptions": {}}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    paths = {path.name: str(path) for path in tmp_path.iterdir()}
    return paths | {"run": runs[0], "none": str(tmp_path / "none")}


@pytest.mark.parametrize("name", ["backtest", "card", "profile", "run"])
def test_the_kind_is_told_from_the_content(
    name: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(files[name], files[name], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    verdicts = {change["verdict"] for part in found["parts"] for change in part["changes"]}
    assert verdicts <= {"within noise", "the same", "unknown"}
    assert found["provenance"]["watts"]


def test_what_the_commands_print_can_be_compared(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["profile", "show", files["profile"], "--json"])
    (tmp_path / "shown.json").write_text(capsys.readouterr().out)
    assert compared(str(tmp_path / "shown.json"), files["profile"]) == 0


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        ("none", "none", "{none}: not there; allowed: the folder of a run of `minwatt replay --out`, what"),
        ("run", "backtest", "{backtest}: a backtest, and {run} is a load test; allowed: two of one kind"),
        ("profile", "card", "{card}: an energy card, and {profile} is a profile; allowed: two of one kind"),
        ("wrong", "wrong", "{wrong}: nothing that is compared; allowed: the folder of a run"),
        ("list", "wrong", "{list}: nothing that is compared; allowed"),
        ("broken", "wrong", "{broken}: neither JSON nor YAML; allowed"),
        ("yaml", "wrong", "{yaml}: neither JSON nor YAML; allowed"),
        ("binary", "wrong", "{binary}: not UTF-8 text; allowed"),
        ("report", "run", "{report}: a load test's report, without the raw results; allowed: the folder of"),
        ("newer", "profile", "{newer}: format = 3: allowed: 2"),
        ("torn", "backtest", "{torn}: trace: Field required"),
        ("empty", "run", "{empty}: holds 0 runs (none); allowed: the folder of one run"),
    ],
)
def test_a_mistake_is_one_line(
    a: str, b: str, line: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(files[a], files[b]) == 2
    said = capsys.readouterr().err
    assert line.format(**files) in said
    assert said.count("\n") == 1
