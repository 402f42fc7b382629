"""The benchmark's smoke run: real servers, real load, and a JSON whose ratios are of its own rounds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import overload
from bench.serving.figures import CPU, MACHINE, OVERHEAD, SINGLE, load_name, summarise
from bench.serving.rounds import Figure, same_round_ratio


@pytest.mark.timeout(240)
def test_a_quick_run_measures_everything(tiny_model: Path, tmp_path: Path) -> None:
    docs = tmp_path / "benchmarks.md"
    command = [sys.executable, "-m", "bench.serving", "--quick"]
    command += ["--model", str(tiny_model), "--out", str(tmp_path / "out"), "--docs", str(docs)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert not docs.exists()  # a smoke run's figures are no benchmark

    data = json.loads((tmp_path / "out" / "bench.json").read_text())
    rounds = data["rounds"]
    assert len(rounds) == 2
    # 32 and 64 in flight are not part of a smoke run.
    expected = {"unary_c8_to_ceiling", "batch16_to_ceiling", "latency_c1_to_engine", "null_cpu_to_echo"}
    assert set(data["ratios"]) == expected
    again = same_round_ratio(
        rounds, Figure(load_name("null", "unary", 8), CPU), Figure(load_name("echo", "unary", 8), CPU)
    )
    assert again is not None
    assert data["ratios"]["null_cpu_to_echo"] == again.median
    assert data["spreads"] == json.loads(
        json.dumps(
            {
                name: {
                    "median": found.median,
                    "least": found.least,
                    "most": found.most,
                    "rounds": found.rounds,
                }
                for name, found in summarise(rounds).ratios.items()
            }
        )
    )
    for one in rounds:
        assert 0 <= one[MACHINE]["others_fraction"] <= 1.1
        for server in ("model", "null", "echo", "stock"):
            assert one[load_name(server, "unary", 8)]["calls_per_s"] > 0
            assert one[load_name(server, "unary", 8)][CPU] > 0
        model = one[load_name("model", "batch16", 8)]
        assert 0 < model["tokens"] <= model["padded_tokens"]
        assert model["engine_cpu_ms"] > 0
        assert model["tokenizer_cpu_ms"] > 0
        assert one[SINGLE]["latency_to_engine"] > 0
        assert one[OVERHEAD]["c1_p99_us"] > 0
    assert 0 <= data["padding_fraction"] < 1
    assert data["rss_mib"] > 0
    assert str(tmp_path) not in json.dumps(data["machine"] | data["versions"])


def test_an_overload_with_front_ends_is_answered_or_refused() -> None:
    """Of an engine that sleeps, so that three times its capacity is little work for this machine."""
    setup = overload.Setup("500ms", ("40", "1000"), front_ends=1, apart=False)
    rows = asyncio.run(overload.measure(texts=1, seconds=0.6, rounds=1, setup=setup))
    by_factor = {row.factor: row for row in rows}
    assert set(by_factor) == set(overload.FACTORS)
    most = by_factor[3.0]
    assert most.refused_fraction > 0
    assert most.answered_rps > 0
    assert overload.table(rows, 1, setup.slo).row_count == len(rows)


def test_a_model_that_is_not_there_is_one_line_and_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.serving", "--quick", "--model", str(tmp_path / "nothing")]
    run = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stdout + run.stderr
    assert str(tmp_path / "nothing") in (run.stdout + run.stderr).replace("\n", "")
