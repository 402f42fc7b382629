"""The demo, shortened: both runs by real processes, every promised field, an honest exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {
    "name", "requests", "completed", "refused", "failed", "p50_ms", "p99_ms", "slo_ms", "over_slo_fraction",
    "energy_j", "energy_source", "joules_per_request", "replicas_mean", "replicas_max", "decisions",
}  # fmt: skip


@pytest.mark.timeout(240)
def test_the_demo_compares_a_fixed_fleet_with_the_scaler(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.demo.run", "--duration", "10", "--peak-rps", "40"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "demo")], cwd=ROOT, capture_output=True, text=True, timeout=230
    )
    report = json.loads((tmp_path / "demo/report.json").read_text())
    fixed, scaled = report["runs"]
    assert (fixed["name"], scaled["name"]) == ("fixed", "minwatt")
    assert fixed.keys() >= FIELDS
    assert fixed["requests"] == scaled["requests"] > 100
    assert fixed["replicas_mean"] == fixed["replicas_max"] == 3
    assert scaled["replicas_mean"] < 3
    assert 0 < scaled["energy_j"] < fixed["energy_j"]
    assert scaled["energy_source"] != "unknown"
    kept = all(run["completed"] == run["requests"] for run in (fixed, scaled)) and scaled["slo_met"]
    assert done.returncode == (0 if kept else 1), done.stdout + done.stderr
    assert done.stdout.count("what it does and why, live: http://127.0.0.1:") == 2
    assert "modelled" in done.stdout or scaled["energy_source"] != "modelled"
    page = (tmp_path / "demo/report.html").read_text()
    assert "plotly" in page
    assert "http" not in {part.split(":")[0] for part in page.split('src="')[1:]}
