"""Commands that stand in the pages run as they stand there, but for ports, and less load for a shorter time.

Each block runs in a folder that holds what its page speaks of; servers stay up until the end of their block.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from minwatt.resources import default_model_dir, default_profile
from tests.docs.blocks import ROOT, Block, blocks
from tests.e2e.replica_process import ReplicaProcess
from tests.tiny_model import write_tiny_model

# How a command begins, and why it does not run here.
ELSEWHERE = {
    "make": "runs this suite, or for minutes",
    "python3": "installs",
    "kubectl": "wants a cluster; tests/k8s and tests/e2e/test_kube_install.py play what the pages show",
    "docker": "wants a container engine",
    "torchrun": "trains for minutes",
    "accelerate": "trains for minutes",
    "minwatt model": "trains or measures for minutes; tests/e2e/test_own_texts.py and tests/modelkit do",
    "minwatt node-agent": "wants root and a card; tests/e2e/test_node_agent.py plays both",
    "minwatt serve --node-agent": "wants a node agent",
    "minwatt serve --model models/mine": "of a model that was trained on the same page",
    "minwatt serve --model models/again": "of a model that was trained",
    "minwatt serve --bus-redis": "wants a Redis; tests/e2e/test_fleet_redis.py has one",
    "minwatt backtest": "simulates for half a minute; tests/commands/test_backtest.py does so",
    "minwatt report compare before.json": "of backtests; tests/commands/test_report.py has some",
    "minwatt report compare out/card": "of energy cards; tests/commands/test_report_cards.py has some",
    "minwatt profile": "measures for minutes; tests/e2e/test_profile.py runs it on a tiny model",
    "minwatt up": "starts and stops a fleet; tests/e2e/test_up.py does so",
    "minwatt scale": "wants replicas; tests/e2e/test_fleet_redis.py has some",
}
PATIENT = {
    "60s": "1s",
    "50ms": "10s",
    "100ms": "10s",
    "/srv/models/intents-fr": "models/intents-fr",
}
WAIT_S = 100


def here(words: Sequence[str]) -> bool:
    """What a command measures counts too: `minwatt measure -- make demo`."""
    parts = " ".join(words).split(" -- ")
    return not any(part.startswith(one) for part in parts for one in ELSEWHERE)


RUN = [block for block in blocks() if any(map(here, block.commands))]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    for name in ("examples", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "support-text").symlink_to(default_model_dir())
    write_tiny_model(tmp_path / "models" / "intents-fr", name="intents-fr")
    rows = "".join(f"{60 * minute},{1000 + 10 * minute}\n" for minute in range(2))
    for name in ("TRACE.csv.gz", "trace.csv.gz"):  # read by what is in it, whatever its name
        (tmp_path / name).write_text(f"t_s,count\n{rows}")
    page = (ROOT / "docs" / "tenants.md").read_text()
    (found,) = re.findall(r"^```yaml\n(tenants:.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "tenants.yaml").write_text(found)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "profile.yaml").write_bytes(default_profile().read_bytes())
    return tmp_path


class Shell:
    """A block's commands, one after the other."""

    def __init__(self, stage: Path, servers: contextlib.ExitStack) -> None:
        self._stage = stage
        self._servers = servers
        self._target = ""

    def run(self, words: Sequence[str]) -> None:
        program, *rest = [PATIENT.get(word, word) for word in words]
        if rest[0] == "serve":
            self._serve(rest[1:])
            return
        if rest[0] == "replay":
            if not self._target:
                self._serve([])
            if "--capture" in rest and not any(self._stage.glob("captured/*")):
                self._load()
            rest[rest.index("--target") + 1] = self._target
        if rest[:2] == ["report", "compare"] and "out/before/minwatt" in rest:
            self._serve([])
            for out in ("out/before", "out/after"):
                self._load("--out", out, "--name", "minwatt")
        self._done(program, rest)

    def _load(self, *more: str) -> None:
        load = ("--generate", "constant", "--peak-rps", "200", "--duration", "1s")
        self._done("minwatt", ["replay", "--target", self._target, *load, *more])

    def _done(self, program: str, words: Sequence[str]) -> None:
        command = [sys.executable, *(("-m", "minwatt") if program == "minwatt" else ()), *words]
        done = subprocess.run(command, cwd=self._stage, capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr

    def _serve(self, flags: Sequence[str]) -> None:
        model, *more = flags[1:] if flags[:1] == ["--model"] else ["models/support-text", *flags]
        with contextlib.chdir(self._stage):
            replica = ReplicaProcess(Path(model), *more)
        self._target = self._servers.enter_context(replica).target


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.where)
def test_a_block_runs(block: Block, stage: Path) -> None:
    with contextlib.ExitStack() as servers:
        shell = Shell(stage, servers)
        for words in filter(here, block.commands):
            shell.run(words)


def test_what_runs_elsewhere_stands_in_the_pages() -> None:
    parts = [part for block in blocks() for words in block.commands for part in " ".join(words).split(" -- ")]
    unused = [one for one in ELSEWHERE if not any(part.startswith(one) for part in parts)]
    assert unused == []
