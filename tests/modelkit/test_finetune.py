"""Fine-tuning a tiny encoder on a few texts: what it writes serves, and a kill changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.cli import app
from modelkit.recipe import FinetuneOptions
from tests.modelkit.tiny_base import write_base
from tests.modelkit.tiny_tasks import KINDS, QUICK, run, write_people, write_texts

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")
pytest.importorskip("sklearn", reason="training needs the train extra")


def losses(line: str) -> tuple[float, ...]:
    """Of what is said of an epoch, in the tasks' order."""
    return tuple(float(part.partition(",")[0]) for part in line.split("loss ")[1:])


def test_two_tasks_learn_together_and_the_model_is_scored_and_goes_on(tmp_path: Path) -> None:
    from modelkit.inference import Graph

    options = FinetuneOptions(
        tasks=(write_texts(tmp_path), write_people(tmp_path)),
        out_dir=tmp_path / "mine",
        name="mine",
        base=write_base(tmp_path / "base"),
        class_weights=True,
        training=replace(QUICK, epochs=20, accumulate=2, patience=15),
    )
    said = run(options)
    assert any(line.startswith("intent: dev: 32 texts are in an earlier split too") for line in said)
    directory = ModelDirectory.open(options.out_dir)
    assert [task.labels for task in directory.spec.tasks] == [KINDS, ("O", "B-PER", "I-PER")]
    assert directory.spec.variants["fp32"].metrics == {"intent.accuracy": 1.0}
    assert directory.spec.provenance.base == "base"
    assert {task: list(splits) for task, splits in directory.spec.provenance.data.items()} == {
        "intent": ["train", "dev", "test"],
        "people": ["train", "dev"],
    }
    graph = Graph(directory.variant_file("fp32"), ("intent_logits", "people_logits"))
    assert graph.columns == {"intent_logits": 2, "people_logits": 3}
    report = json.loads((options.out_dir / "report.json").read_text())
    assert [(task["task"], task["split"], task["score"]) for task in report["tasks"]] == [
        ("intent", "test", 1.0),
        ("people", "dev", 1.0),
    ]
    assert "plotly" in (options.out_dir / "confusion-intent.html").read_text()
    assert not (options.out_dir / ".cache" / "resume.pt").exists()

    hushed = replace(QUICK, epochs=12, label_smoothing=0.0, loss_weights={"people": 1e-30})
    said = run(replace(options, out_dir=tmp_path / "hushed", training=hushed))
    intent, people = zip(*(losses(one) for one in said if one.startswith("epoch")), strict=True)
    assert intent[-1] < 0.5 * intent[0]
    assert people[-1] > 0.5 * people[0]  # the encoder alone has changed

    onward = replace(options, out_dir=tmp_path / "onward", base=options.out_dir / "checkpoint")
    said = run(
        replace(onward, training=replace(QUICK, epochs=1, encoder_rate=0.0, head_rate=0.0, frozen_layers=1))
    )
    assert "going on from the heads of intent, people" in said
    [epoch] = [line for line in said if line.startswith("epoch")]
    assert "dev accuracy 1.0000" in epoch


def test_the_model_has_no_head_of_an_auxiliary_task(tmp_path: Path) -> None:
    options = FinetuneOptions(
        tasks=(write_texts(tmp_path),),
        auxiliary=(write_people(tmp_path),),
        out_dir=tmp_path / "mine",
        name="mine",
        base=write_base(tmp_path / "base"),
        cased=True,
        training=replace(QUICK, epochs=1, lower_probability=0.5),
    )
    said = run(options)
    assert any(line.startswith("training on intent 32, people ") for line in said)
    assert "people" not in next(line for line in said if line.startswith("epoch"))
    directory = ModelDirectory.open(options.out_dir)
    assert [task.name for task in directory.spec.tasks] == ["intent"]
    report = json.loads((options.out_dir / "report.json").read_text())
    assert [task["task"] for task in report["tasks"]] == ["intent"]


def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    options = FinetuneOptions(
        tasks=(write_texts(tmp_path), write_people(tmp_path)),
        out_dir=tmp_path / "whole",
        name="mine",
        base=write_base(tmp_path / "base"),
        training=QUICK,
    )
    run(options)
    killed = replace(options, out_dir=tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        run(killed, stop_after=2)
    assert not (killed.out_dir / "model.yaml").exists()
    assert next(line for line in run(killed) if line.startswith("epoch")).startswith("epoch 3 of 3")
    for file in ("model.safetensors", "heads.safetensors"):
        one, other = (load_file(folder.out_dir / "checkpoint" / file) for folder in (options, killed))
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name


def test_frozen_layers_stay_and_a_training_without_gain_stops(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    options = FinetuneOptions(
        tasks=(write_texts(tmp_path),),
        out_dir=tmp_path / "mine",
        name="mine",
        base=write_base(tmp_path / "base"),
        training=replace(QUICK, epochs=20, head_rate=0.0, encoder_rate=0.0, patience=2, frozen_layers=1),
    )
    said = run(options)
    assert len([line for line in said if line.startswith("epoch")]) == 3
    run(replace(options, out_dir=tmp_path / "moved", training=replace(QUICK, frozen_layers=1)))
    before = load_file(tmp_path / "base" / "model.safetensors")
    after = load_file(tmp_path / "moved" / "checkpoint" / "model.safetensors")
    for name, tensor in before.items():
        frozen = name.startswith(("embeddings.", "encoder.layer.0."))
        if frozen or name.endswith("dense.weight"):
            assert torch.equal(tensor, after[name]) == frozen, name


def test_another_training_does_not_go_on_from_a_state(tmp_path: Path) -> None:
    options = FinetuneOptions(
        tasks=(write_texts(tmp_path),),
        out_dir=tmp_path / "mine",
        name="mine",
        base=write_base(tmp_path / "base"),
        training=QUICK,
    )
    with pytest.raises(KeyboardInterrupt):
        run(options, stop_after=1)
    said = run(replace(options, training=replace(QUICK, seed=2)))
    assert [line[:12] for line in said if line.startswith("epoch")] == [f"epoch {n} of 3" for n in (1, 2, 3)]


def test_the_command_writes_a_model_and_prints_its_scores(tmp_path: Path) -> None:
    texts, base, out = write_texts(tmp_path), write_base(tmp_path / "base"), tmp_path / "mine"
    files = ",".join(map(str, texts.splits.values()))
    quick = ["--epochs", "20", "--encoder-rate", "1e-3", "--batch-size", "8", "--threads", "1"]
    arguments = [
        "finetune",
        "--task",
        f"intent:{files}",
        "--from",
        str(base),
        "--max-tokens",
        "32",
        "--out",
        str(out),
        *quick,
        "--json",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["tasks"][0]["examples"] == 32
    assert ModelDirectory.open(out).spec.name == "mine"
    result = CliRunner().invoke(app, ["evaluate", str(out), "--task", f"intent:{files}", "--json"])
    [scored] = json.loads(result.stdout)["variants"]
    assert scored["entity_f1"] is None
    assert scored["accuracy"] is not None
    assert CliRunner().invoke(app, ["quantize", str(out), "--task", f"intent:{files}"]).exit_code == 0
    int8 = ModelDirectory.open(out).spec.variants["int8"]
    assert int8.metrics == {"intent.accuracy": 1.0}
    both = CliRunner().invoke(app, ["evaluate", str(out), "--task", f"intent:{files}", "--data", str(out)])
    assert "both are given of --data and --task" in str(both.exception)


def test_mistakes_are_named_before_the_training(tmp_path: Path) -> None:
    good = FinetuneOptions(
        tasks=(write_texts(tmp_path),),
        out_dir=tmp_path / "mine",
        name="mine",
        base=write_base(tmp_path / "base"),
        training=QUICK,
    )

    def told(options: FinetuneOptions) -> str:
        with pytest.raises(UsageError) as caught:
            run(options)
        return str(caught.value)

    assert told(replace(good, name="Bad Name")).startswith("name = 'Bad Name': allowed")
    assert told(replace(good, training=replace(QUICK, max_tokens=65))).startswith(
        "max-tokens = 65: allowed: 8 to 64"
    )
    assert told(replace(good, training=replace(QUICK, frozen_layers=3))).startswith(
        "frozen-layers = 3: the encoder has 2 layers"
    )
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "bert"', '"model_type": "roberta"'))
    assert "model_type = 'roberta' in config.json; allowed: 'bert'" in told(good)
    (tmp_path / "dev.jsonl").write_text('{"text": "hi", "label": "loan"}')
    assert "dev.jsonl:1: label 'loan' is not in" in told(good)
