"""A checkpoint becomes a directory that serves: answers as torch does, all heads, and where it is from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, Task, sha256_of
from modelkit.cli import app
from modelkit.inference import INPUTS, Graph
from tests.modelkit.tiny_base import write_base

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")

TASKS = (
    Task(name="intent", kind="classification", output="intent_logits", labels=("card", "rate")),
    Task(name="people", kind="ner", output="people_logits", labels=("O", "B-PER", "I-PER")),
    Task(name="mood", kind="classification", output="mood_logits", labels=("bad", "good", "none")),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three heads with random weights."""
    from modelkit.training.checkpoint import write_checkpoint
    from modelkit.training.network import load_base

    base = write_base(tmp_path_factory.mktemp("base"))
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(load_base(base, TASKS, 0.0, base / "tokenizer.json"), base / "tokenizer.json", folder)
    return folder


def export(checkpoint: Path, out: Path, *options: str) -> dict[str, object]:
    result = CliRunner().invoke(
        app, ["export", str(checkpoint), "--out", str(out), "--json", *options], catch_exceptions=False
    )
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_all_heads_answer_as_torch_does_and_the_directory_says_where_it_is_from(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    report = export(checkpoint, out, "--licence", "Apache-2.0", "--base", "tiny", "--max-tokens", "48")
    assert report["passed"]
    assert report["parity"]["logit"] < 1e-4
    assert report["heads"] == {"intent": "classification", "people": "ner", "mood": "classification"}
    assert report["outputs"]["people_logits"] == ["batch", "tokens", "3"]
    [cpu, cuda, tensorrt] = report["providers"]
    assert cpu["without_kernel"] == cuda["without_kernel"] == {}
    assert "com.microsoft.MultiHeadAttention" in tensorrt["without_kernel"]
    spec = ModelDirectory.open(out).spec
    assert (spec.name, spec.max_tokens, spec.licence, spec.tasks) == ("mine", 48, "Apache-2.0", TASKS)
    assert spec.provenance.weights_sha256 == sha256_of(checkpoint / "model.safetensors")
    assert spec.provenance.base == "tiny"
    assert {"torch", "onnxruntime"} <= spec.provenance.versions.keys()
    assert (out / "export.json").is_file()


def test_a_server_loads_it_at_once(checkpoint: Path, tmp_path: Path) -> None:
    from service.runtime.onnx import OnnxEncoder
    from service.runtime.options import RuntimeOptions

    export(checkpoint, tmp_path / "mine")
    directory = ModelDirectory.open(tmp_path / "mine")
    assert directory.tokenizer_file().is_file()
    heads = {task.output: len(task.labels) for task in directory.spec.tasks}
    encoder = OnnxEncoder(directory.variant_file("fp32"), heads, RuntimeOptions("cpu", 1))
    answers = encoder.run(np.ones((2, 5), np.int64), np.ones((2, 5), np.int64))
    shapes = {name: logits.shape for name, logits in answers.items()}
    assert shapes == {"intent_logits": (2, 2), "people_logits": (2, 5, 3), "mood_logits": (2, 3)}


def test_the_standard_form_has_no_operator_of_onnx_runtimes_own(checkpoint: Path, tmp_path: Path) -> None:
    report = export(checkpoint, tmp_path / "plain", "--standard")
    assert [check["without_kernel"] for check in report["providers"]] == [{}, {}, {}]
    graph = Graph(tmp_path / "plain" / "fp32" / "model.onnx", (None, None))
    assert list(report["inputs"]) == list(INPUTS)
    assert set(graph.columns) == {task.output for task in TASKS}


def test_what_differs_more_than_it_may_is_not_written(checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["export", str(checkpoint), "--out", str(tmp_path / "mine"), "--tolerance", "0"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert "more than 0" in result.stdout
    assert not (tmp_path / "mine").exists()


def test_the_checkpoint_may_be_the_folder_one_stands_in(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(checkpoint, tmp_path / "mine", "--licence", "MIT")
    shutil.copytree(checkpoint, tmp_path / "mine" / "checkpoint")
    monkeypatch.chdir(tmp_path / "mine" / "checkpoint")
    assert export(Path("."), Path("..", "..", "again"))["model"] == "mine"
    assert ModelDirectory.open(tmp_path / "again").spec.licence == "MIT"
    result = CliRunner().invoke(app, ["export", ".", "--out", "."])
    assert "that is the checkpoint" in str(result.exception)


def test_mistakes_are_named(checkpoint: Path, tmp_path: Path) -> None:
    from modelkit.recipe import ExportOptions
    from modelkit.release.run import export_model
    from modelkit.release.source import read_source

    def told(options: ExportOptions) -> str:
        with pytest.raises(UsageError) as caught:
            export_model(options, read_source(options), lambda line: None)
        return str(caught.value)

    good = ExportOptions(checkpoint=checkpoint, out_dir=tmp_path / "out")
    assert "no config.json; allowed: a directory with" in told(replace(good, checkpoint=tmp_path))
    bare = write_base(tmp_path / "bare")
    assert "no tasks.json: an encoder without heads" in told(replace(good, checkpoint=bare))
    other = shutil.copytree(checkpoint, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "distilbert"}))
    assert told(replace(good, checkpoint=other)).endswith(
        "model_type = 'distilbert' in config.json; allowed: 'bert', which MiniLM is too"
    )
    assert told(replace(good, max_tokens=65)).startswith("max-tokens = 65: allowed: 8 to 64")
    assert told(replace(good, name="Bad Name")).startswith("name = 'Bad Name': allowed")
