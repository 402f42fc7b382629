"""Several processes train one model: the weights are those of one process with the batches put together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modelkit.tiny_base import write_base
from tests.modelkit.tiny_tasks import write_people, write_texts

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("accelerate", reason="training needs the train extra")

# Imports once, then forks: a process each rank, which finds its place in the environment as torchrun sets it.
LAUNCHER = """
import json, multiprocessing, os, socket, sys
from pathlib import Path

import torch

from modelkit.data.dataset import TaskFiles, read_datasets
from modelkit.inference import load_tokenizer
from modelkit.recipe import TrainingOptions
from modelkit.training.batches import LearningTask
from modelkit.training.checkpoint import ResumeFile
from modelkit.training.network import load_base
from modelkit.training.processes import launched
from modelkit.training.train import Hooks, TrainingData, train


def work(folder, plan):
    options = TrainingOptions(**plan["options"], epochs=3, max_tokens=32, threads=1, dropout=0.0)
    datasets = read_datasets([TaskFiles.parse(text) for text in plan["tasks"]])
    out = folder / plan["out"]
    torch.manual_seed(1)
    tokenizer_file = folder / "base" / "tokenizer.json"
    network = load_base(folder / "base", [one.task for one in datasets], 0.0, tokenizer_file)
    network.dropout.p = 0.0
    weights = {"classification": (1.0, 3.0), "ner": None}
    learning = [
        LearningTask(one.task, one.splits["train"], 0.1, 0.4, weights=weights[one.task.kind])
        for one in datasets
    ]
    data = TrainingData(learning, load_tokenizer(tokenizer_file, 32))
    losses = []
    with launched("cpu") as processes:
        def epoch(progress, network):
            assert processes.is_main
            losses.append([progress.epoch, *progress.losses])
            if progress.epoch == plan["killed_in"]:
                os._exit(9)
            return -progress.losses[0]

        resume = ResumeFile(out / "resume.pt", {"processes": str(processes.count)})
        trained = train(network, data, options, Hooks(epoch, lambda done, total: None), resume, processes)
        torch.save({"weights": trained.state_dict(), "losses": losses}, out / f"{processes.rank}.pt")


def rank(folder, plan, number, port):
    if plan["processes"] > 1:
        place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": plan["processes"]}
        os.environ.update({name: str(value) for name, value in place.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    work(folder, plan)


folder = Path(sys.argv[1])
for plan in json.loads(sys.argv[2]):
    (folder / plan["out"]).mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=rank, args=(folder, plan, n, port)) for n in range(plan["processes"])]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(90)
        one.kill()
        one.join()
    killed = plan["killed_in"] is not None
    assert (ranks[0].exitcode == 9) if killed else all(one.exitcode == 0 for one in ranks), plan
"""
QUICK = {"encoder_rate": 1e-3, "embedding_rate": 1e-3, "precision": "fp32"}
# Nothing differs but the order of sums: no dropout, which each process draws by itself, and float32. Adam
# divides by a gradient's size, so that a last bit moves a weight whose gradient is near zero, by up to its
# rate a step. Half a rate is allowed; weights move by tens of rates.
NOISE = 5e-4


def tasks_in(folder: Path) -> list[str]:
    both = (write_texts(folder), write_people(folder))
    return [f"{files.name}:" + ",".join(map(str, files.splits.values())) for files in both]


@pytest.mark.timeout(300)  # five processes, on a machine that may be busy
def test_two_processes_come_to_the_weights_of_one_and_go_on_after_a_kill(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    plan = {"tasks": tasks_in(tmp_path), "killed_in": None}
    # The last batch of a pass is smaller: of one row, one process has none.
    one = {**plan, "out": "one", "processes": 1, "options": {**QUICK, "batch_size": 6}}
    two = {**plan, "out": "two", "processes": 2, "options": {**QUICK, "batch_size": 3}}
    killed = {**two, "out": "killed", "killed_in": 2}
    plans = [one, two, killed, {**killed, "killed_in": None}]
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(tmp_path), json.dumps(plans)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    alone, first, second, again = (
        torch.load(tmp_path / file) for file in ("one/0.pt", "two/0.pt", "two/1.pt", "killed/0.pt")
    )
    assert [epoch for epoch, *_ in again["losses"]] == [2, 3]
    for mine, theirs in zip(alone["losses"], first["losses"], strict=True):
        assert mine == pytest.approx(theirs, abs=NOISE)
    for name, weights in first["weights"].items():
        assert torch.equal(weights, second["weights"][name]), name
        assert torch.equal(weights, again["weights"][name]), name
        assert torch.allclose(weights, alone["weights"][name], rtol=0, atol=NOISE), name
