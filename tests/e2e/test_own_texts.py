"""One's own texts, four commands: fine-tuned, quantized, measured and served, without an entity in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import minwatt
from examples.synthetic_intents import texts_of
from modelkit.card.measurements import read_card
from tests.e2e.replica_process import ReplicaProcess
from tests.modelkit.tiny_base import write_base
from tests.tiny_model import WORDS

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")
pytest.importorskip("sklearn", reason="training needs the train extra")

QUICK = [
    "--epochs",
    "20",
    "--encoder-rate",
    "1e-3",
    "--batch-size",
    "8",
    "--threads",
    "1",
    "--max-tokens",
    "32",
]


def model(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minwatt", "model", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_texts_of_ones_own_are_served_after_four_commands(tmp_path: Path) -> None:
    rows = [
        {"text": f"{word} {name} {kind}", "label": kind}
        for word in WORDS[:8]
        for name in ("hello", "my")
        for kind in ("card", "rate")
    ]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ",".join(str(tmp_path / f"{split}.jsonl") for split in ("train", "dev", "test"))
    base, mine, out = write_base(tmp_path / "base"), str(tmp_path / "mine"), tmp_path / "card"
    task = ["--task", f"intent:{files}"]
    model("finetune", *task, "--from", str(base), "--out", mine, *QUICK)
    model("quantize", mine, *task)
    short = ["--rounds", "3", "--round-s", "0.001", "--batch", "2", "--meter", "modelled"]
    model("card", mine, *task, *short, "--grid-intensity", "400", "--out", str(out))
    card = read_card(out / "card.json")
    assert {one.variant: one.accuracy.value for one in card.variants} == {"fp32": 1.0, "int8": 1.0}
    assert card.training is not None
    assert card.training.gco2 is not None
    with ReplicaProcess(tmp_path / "mine") as replica, minwatt.Client(replica.target) as client:
        assert [one.label for one in client.classify(["hello my card", "where my rate"])] == ["card", "rate"]
        with pytest.raises(minwatt.NotServed):
            client.extract_entities(["hello my card"])


def test_the_made_up_set_has_150_intents_and_no_text_twice() -> None:
    splits = texts_of(3000, seed=1)
    rows = [row for those in splits.values() for row in those]
    assert {split: len(those) for split, those in splits.items()} == {"train": 2400, "dev": 300, "test": 300}
    assert len({row["text"] for row in rows}) == len(rows) == 3000
    for those in splits.values():
        assert len({row["label"] for row in those}) == 150
    assert texts_of(3000, seed=1) == splits
