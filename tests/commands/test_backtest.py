"""`minwatt backtest`: its JSON, its table, that it repeats, and mistakes as one line with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minwatt import cli
from minwatt.commands.backtest_result import Backtest
from minwatt.commands.backtest_table import backtest_table, cells, headline, sentences
from minwatt.resources import resource

POLICY = resource("examples/policy-a100.yaml")
PROFILE = resource("profiles/reference/a100-bert-base-int8.yaml")
ROW = {
    "name",
    "energy_j",
    "idle_j",
    "busy_j",
    "startup_j",
    "over_slo_fraction",
    "p99_ms",
    "replicas_mean",
    "replicas_max",
    "reversals",
    "underprovisioned_s",
    "overprovisioned_s",
    "ratio_to_optimum",
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Ten minutes with a rise, a fall, and a minute without data."""
    counts = [200, 220, 210, 500, 520, 540, "", 300, 200, 190]
    path = tmp_path / "short.csv"
    path.write_text("t_s,count\n" + "".join(f"{60 * i},{count}\n" for i, count in enumerate(counts)))
    return path


@pytest.fixture
def few_levers(tmp_path: Path) -> Path:
    """A policy with few operating points: a short simulation takes longest for their steady states."""
    text = POLICY.read_text()
    for old, new in (
        ("clocks: auto", "clocks: off"),
        ("maxSize: 64, maxDelay: 20ms", "maxSize: 4, maxDelay: 0s"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "few.yaml"
    path.write_text(text)
    return path


def flags(trace: Path, *more: str, policy: Path = POLICY) -> list[str]:
    paths = ["--policy", str(policy), "--profile", str(PROFILE), "--trace", str(trace)]
    return ["backtest", *paths, "--peak-rps", "20000", *more]


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code in (0, 1), printed.err
    return printed.out


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_json_alone_is_on_stdout_and_has_a_row_for_each_contender(
    trace: Path, few_levers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = flags(trace, "--against", "static,keda-rate", "--json", policy=few_levers)
    found = json.loads(run(capsys, arguments))
    assert set(found) == {
        "trace", "policy", "profile", "fleet_scale", "bin_s", "peak_rps", "mean_rps", "seconds", "no_data_s",
        "slo_ms", "error_budget", "carbon", "assumptions", "contenders", "provenance",
    }  # fmt: skip
    assert found["provenance"]["watts"] == "assumed"
    assert found["fleet_scale"] == pytest.approx(20_000 / (540 / 60))
    assert found["seconds"] == 540
    assert found["no_data_s"] == 60
    rows = {row["name"]: row for row in found["contenders"]}
    assert list(rows) == ["minwatt", "optimum", "static", "keda-rate"]
    for row in rows.values():
        assert set(row) >= ROW
        assert row["energy_j"] == pytest.approx(row["idle_j"] + row["busy_j"] + row["startup_j"])
        assert row["ratio_to_optimum"] == pytest.approx(row["energy_j"] / rows["optimum"]["energy_j"])
        assert row["keeps_slo"] == (row["over_slo_fraction"] <= found["error_budget"])


def test_a_repeated_run_is_identical(
    trace: Path, few_levers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = flags(trace, "--against", "static,hpa", "--seed", "7", "--json", policy=few_levers)
    found, again = (json.loads(run(capsys, arguments)) for _ in range(2))
    assert found.pop("provenance").keys() == again.pop("provenance").keys()
    assert found == again


def test_the_page_stands_alone_and_names_every_contender(
    trace: Path, few_levers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--html", str(tmp_path / "page.html"), "--markdown", str(tmp_path / "page.md")]
    arguments = flags(trace, "--against", "static", *files, policy=few_levers)
    out = run(capsys, arguments)
    text = (tmp_path / "page.md").read_text()
    assert "| contender | SLO |" in text
    assert "Watts: assumed." in text
    page = (tmp_path / "page.html").read_text()
    assert "Plotly.newPlot" in page
    for name in ("minwatt", "optimum", "static"):
        assert name in page
        assert name in out
    assert "Watts: assumed." in out


def test_grams_need_an_intensity_file(
    trace: Path, few_levers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "grid.csv"
    grid.write_text("t_s,timestamp_utc,gco2_per_kwh\n0,2022-01-01T00:00:00Z,360\n3600,x,360\n")
    arguments = flags(trace, "--against", "", "--json", policy=few_levers)
    with_file = json.loads(run(capsys, [*arguments, "--carbon", str(grid)]))
    for row in with_file["contenders"]:
        assert row["gco2"] == pytest.approx(row["energy_j"] / 3.6e6 * 360)
        assert row["gco2_unknown_share"] == 0
    without = json.loads(run(capsys, arguments))
    assert without["contenders"][0]["gco2"] is None


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--against", "hpa,vpa"], "--against = 'vpa': allowed: minwatt, optimum, static, hpa"),
        (["--peak-rps", "0"], "--peak-rps = 0: allowed: a number above 0"),
        (["--arrival-cv", "nan"], "--arrival-cv = nan: allowed: 0.1 to 20"),
        (["--parked-watts", "-1"], "--parked-watts = -1: allowed: 0 to"),
        (["--clock-set", "B"], "--clock-set = 'B': allowed: A, conservative"),
        (["--first", "3"], "--first = '3': allowed: a duration"),
        (["--first", "0s"], "--first = '0s': allowed: above 0s"),
        (["--detail", "fine"], "--detail = 'fine': allowed: binned, exact"),
        (["--carbon", "DIR/none.csv"], "none.csv: not a readable intensity file"),
        (["--html", "DIR"], "can't be written"),
        (["--trace", "DIR/none.csv"], "none.csv: not a readable trace"),
        (["--profile", "DIR/none.yaml"], "none.yaml: can't be read"),
    ],
)
def test_a_wrong_option_is_one_line(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], named: str
) -> None:
    assert named in refused(capsys, flags(trace, *(part.replace("DIR", str(tmp_path)) for part in more)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("t_s,count\n0,1\n60,2\n240,5\n", "bad.csv:4: t_s = '240': expected 120, the next bin"),
        ("t_s,count\n0,1\n60,-2\n", "bad.csv:3: count = '-2': expected a number of 0 or more"),
        ("t_s,count\n60,1\n0,2\n", "bad.csv:3: t_s = '0': times must not go back"),
        ("time,count\n0,1\n60,2\n", "bad.csv:1: header = 'time,count': the first column must be t_s"),
        ("t_s,rate\n0,1\n60,2\n", "bad.csv:1: header = 't_s,rate': allowed: t_s,count"),
        ("t_s,count\n0,0\n60,\n", "bad.csv: count: no bin has a request"),
        ("", "bad.csv: empty file"),
    ],
)
def test_a_bad_trace_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert named in refused(capsys, flags(path))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("model: bert-base", "model: other", "model = 'bert-base': DIR/policy.yaml asks for 'other'"),
        ("latency: 50ms", "latency: 1ms", "spec.slo.latency = 1ms: "),
        ("budget: 12kW", "budget: 40W", "spec.power.budget = 40W: one replica draws 55W idle"),
        ("allow: [int8]", "allow: [fp16]", "spec.variants.allow = ['fp16']"),
        ("allow: [int8]", "allow: [int8], minAccuracy: 0.9", "spec.variants.minAccuracy = 0.9: "),
        ("latency: 50ms", "latency: 0ms", "spec.slo.latency"),
    ],
)
def test_an_impossible_policy_is_one_line(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, named: str
) -> None:
    policy = tmp_path / "policy.yaml"
    text = POLICY.read_text()
    assert old in text
    policy.write_text(text.replace(old, new))
    said = refused(capsys, [*flags(trace), "--policy", str(policy)])
    assert named.replace("DIR", str(tmp_path)) in said


def backtest(**rows: tuple[float, float]) -> Backtest:
    """Contenders by name: joules and the fraction over the SLO."""
    zero = {
        "idle_j": 0.0,
        "startup_j": 0.0,
        "p50_ms": None,
        "p99_ms": None,
        "batch_mean": None,
        "replicas_mean": 1.0,
        "replicas_max": 1,
        "reversals": 0,
        "underprovisioned_s": 0.0,
        "overprovisioned_s": 0.0,
    }
    return Backtest.model_validate(
        {
            "trace": "t.csv",
            "policy": "p.yaml",
            "profile": "f.yaml",
            "fleet_scale": 2.0,
            "bin_s": 60.0,
            "peak_rps": 10.0,
            "mean_rps": 5.0,
            "seconds": 3600.0,
            "no_data_s": 0.0,
            "slo_ms": 50.0,
            "error_budget": 0.001,
            "carbon": None,
            "assumptions": {
                "latency_basis": "published",
                "watts_basis": "assumed",
                "start_up_basis": "assumed",
                "clock_set": "A",
                "clock_basis": "assumed",
                "start_up_s": 45.0,
                "start_up_j": 4050.0,
                "parked_w": 45.0,
                "arrival_cv": 2.0,
                "text_tokens": 128.0,
                "initial_replicas": 3,
                "service_noise": 0.05,
                "telemetry_delay_s": 1.0,
                "detail": "binned",
                "seed": 0,
            },
            "contenders": [
                {
                    **zero,
                    "name": name,
                    "energy_j": joules,
                    "busy_j": joules,
                    "over_slo_fraction": over,
                    "keeps_slo": over <= 0.001,
                    "ratio_to_optimum": joules / rows["optimum"][0],
                }
                for name, (joules, over) in rows.items()
            ],
        }
    )


def test_those_that_miss_the_slo_come_last_and_are_marked() -> None:
    result = backtest(minwatt=(110.0, 0.0), optimum=(100.0, 0.0), static=(200.0, 0.001), hpa=(50.0, 0.5))
    assert [row.name for row in result.ranked()] == ["optimum", "minwatt", "static", "hpa"]
    marks = {row.name: cells(result, row)[1] for row in result.contenders}
    assert marks == {"minwatt": "✓", "optimum": "✓", "static": "✓", "hpa": "✗"}
    assert backtest_table(result).row_count == 4


def test_the_headline_compares_with_those_that_keep_the_slo_alone() -> None:
    result = backtest(minwatt=(110.0, 0.0), optimum=(100.0, 0.0), static=(200.0, 0.0), hpa=(50.0, 0.5))
    assert headline(result) == (
        "minwatt: 1.100 × the optimum's joules, 45.0% fewer than static, the best other that keeps the SLO"
    )
    assert headline(backtest(minwatt=(90.0, 0.02), optimum=(100.0, 0.0))).startswith("minwatt misses the SLO")


def test_the_sentences_say_what_the_figures_rest_on() -> None:
    said = " ".join(sentences(backtest(minwatt=(1.0, 0.0), optimum=(1.0, 0.0))))
    for part in (
        "Watts: assumed",
        "Latency: published",
        "bursty (CV 2)",
        "Clock set A (assumed)",
        "45 W",
        "× 2",
    ):
        assert part in said
