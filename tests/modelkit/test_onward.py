"""New data for a trained model: labels are added and kept, what is forgotten is measured and refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from minwatt.v1.model_dir import ModelDirectory
from modelkit.data.dataset import EarlierFile, TaskFiles
from modelkit.recipe import FinetuneOptions
from tests.modelkit.tiny_base import write_base
from tests.modelkit.tiny_tasks import QUICK, run, write_texts
from tests.tiny_model import WORDS

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")
pytest.importorskip("sklearn", reason="training needs the train extra")
pytest.importorskip("peft", reason="training needs the train extra")
pytestmark = pytest.mark.timeout(300)  # on a machine that may be busy


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> FinetuneOptions:
    """A model of cards and rates, trained by adapters in float16 with scaled losses."""
    folder = tmp_path_factory.mktemp("earlier")
    options = FinetuneOptions(
        tasks=(write_texts(folder),),
        out_dir=folder / "mine",
        name="mine",
        base=write_base(folder / "base"),
        gco2_per_kwh=400.0,
        training=replace(QUICK, epochs=20, lora_rank=4, precision="fp16", encoder_rate=5e-3, head_rate=5e-3),
    )
    run(options)
    return options


def write_new(folder: Path, labels: Sequence[str]) -> TaskFiles:
    lines = [json.dumps({"text": f"{word} is {label}", "label": label}) for word in WORDS for label in labels]
    (folder / "new.jsonl").write_text("\n".join(lines))
    return TaskFiles.parse(f"intent:{folder / 'new.jsonl'},{folder / 'new.jsonl'}")


def test_adapters_end_up_in_a_plain_encoder(earlier: FinetuneOptions) -> None:
    from safetensors.torch import load_file

    report = json.loads((earlier.out_dir / "report.json").read_text())
    assert report["tasks"][0]["score"] == 1.0
    energy = report["energy"]
    assert (energy["source"], energy["processes"]) in [("modelled", 1), ("rapl", 1)]
    assert energy["joules"] > 0
    assert energy["gco2"] == pytest.approx(energy["joules"] / 3.6e6 * 400)
    assert earlier.base is not None
    before = load_file(earlier.base / "model.safetensors")
    after = load_file(earlier.out_dir / "checkpoint" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weights in before.items():
        adapted = name.startswith("encoder.layer.") and weights.ndim == 2
        assert torch.equal(weights, after[name]) != adapted, name


def test_new_labels_join_the_known_ones_and_replay_keeps_those(
    earlier: FinetuneOptions, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    test = earlier.tasks[0].splits["test"]
    options = replace(
        earlier,
        tasks=(write_new(tmp_path, ["loan"]),),
        out_dir=tmp_path / "onward",
        base=earlier.out_dir / "checkpoint",
        training=replace(QUICK, epochs=6),
        replay=(EarlierFile("intent", earlier.tasks[0].splits["train"]),),
        checks=(EarlierFile("intent", test),),
    )
    said = run(options)
    assert "intent: 1 labels are new to the checkpoint's 2: loan" in said
    assert ModelDirectory.open(options.out_dir).spec.tasks[0].labels == ("card", "rate", "loan")
    report = json.loads((options.out_dir / "report.json").read_text())
    assert report["published"]
    [check] = report["forgetting"]
    assert (check["before"], check["after"], check["examples"]) == (1.0, 1.0, 32)
    known, grown = (
        load_file(folder / "heads.safetensors")["0.weight"]
        for folder in (earlier.out_dir / "checkpoint", options.out_dir / "checkpoint")
    )
    assert grown.shape[0] == 3
    distance = (grown[:2] - known).norm()
    assert distance < 0.5 * known.norm()  # they went on from where they were


def test_where_too_much_is_forgotten_nothing_is_replaced(earlier: FinetuneOptions, tmp_path: Path) -> None:
    options = replace(
        earlier,
        tasks=(write_new(tmp_path, ["rate"]),),
        out_dir=tmp_path / "onward",
        base=earlier.out_dir / "checkpoint",
        training=replace(QUICK, encoder_rate=5e-3, head_rate=5e-2),
        checks=(EarlierFile("intent", earlier.tasks[0].splits["test"]),),
    )
    run(options)
    assert not (options.out_dir / "model.yaml").exists()
    new = options.out_dir / ".cache" / "new"
    report = json.loads((new / "report.json").read_text())
    [check] = report["forgetting"]
    assert check["before"] - check["after"] > 0.01
    assert not report["published"]
    # What is allowed is no part of the training: it is not done again.
    said = run(replace(options, max_forgetting=1.0))
    assert not [line for line in said if line.startswith("epoch")]
    assert ModelDirectory.open(options.out_dir).spec.name == "mine"


def test_rates_beyond_all_bounds_end_with_a_line(earlier: FinetuneOptions, tmp_path: Path) -> None:
    from minwatt.v1.errors import UsageError

    wild = replace(earlier, out_dir=tmp_path / "wild", training=replace(QUICK, encoder_rate=1e38))
    with pytest.raises(
        UsageError, match=r"encoder-rate, head-rate: weights grew out of all bounds in epoch 1"
    ):
        run(wild)
