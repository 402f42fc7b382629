"""Training feels the rounding of the graph that will be shipped, and leaves plain float32 weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, Task
from modelkit.compress.calibration import Calibration
from modelkit.compress.catalogue import CATALOGUE
from modelkit.compress.graph import EMBEDDINGS, save
from modelkit.compress.schemes import quantized
from modelkit.inference import Graph
from modelkit.recipe import ExportOptions, Retraining
from tests.modelkit.tiny_base import write_base
from tests.tiny_model import WORDS

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")

TASKS = (Task(name="intent", kind="classification", output="intent_logits", labels=("card", "rate")),)
# Four bits: the kernel rounds activations to eight bits as well, which training does not. Static: a value
# halfway between two codes may go either way.
NEAR = {"per_token": 1e-3, "static_minmax": 0.05, "weight_int8": 0.05, "weight_int4": 0.05}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with its checkpoint; random weights."""
    from modelkit.release.run import export_model
    from modelkit.release.source import read_source
    from modelkit.training.checkpoint import write_checkpoint
    from modelkit.training.network import load_base

    base, path = write_base(tmp_path_factory.mktemp("base")), tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    (path / "checkpoint").mkdir()
    write_checkpoint(
        load_base(base, TASKS, 0.0, base / "tokenizer.json"), base / "tokenizer.json", path / "checkpoint"
    )
    options = ExportOptions(checkpoint=path / "checkpoint", out_dir=path, name="tiny", max_tokens=32)
    export_model(options, read_source(options), lambda line: None)
    return path


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(1)
    shapes = [(8, 4), (8, 9)]
    return [(generator.integers(4, 60, shape), np.ones(shape, np.int64)) for shape in shapes]


@pytest.mark.parametrize("scheme", [name for name, one in CATALOGUE.items() if one.trainable])
def test_a_network_with_rounding_answers_as_the_quantized_graph(
    model: Path, tmp_path: Path, scheme: str
) -> None:
    from modelkit.release.parity import parity
    from modelkit.training.fake_quantization import add_rounding, remove_rounding
    from modelkit.training.quantization_aware import load_trained

    fp32 = model / "fp32" / "model.onnx"
    source = onnx.load(fp32)
    save(quantized(scheme, source, Calibration(source, batches()), {EMBEDDINGS}), tmp_path / "model.onnx")
    graph = Graph(tmp_path / "model.onnx", (None, None))
    network = load_trained(model / "checkpoint", TASKS)
    plainly = parity(network, graph, batches()).logit
    add_rounding(network, scheme, batches())
    rounded = parity(network, graph, batches()).logit
    assert rounded < min(NEAR[scheme], plainly)
    remove_rounding(network)
    assert parity(network, Graph(fp32, (None, None)), batches()).logit < 1e-4


def write_data(path: Path) -> str:
    lines = [
        json.dumps({"text": f"{word} {kind}", "label": kind}) for word in WORDS for kind in ("card", "rate")
    ]
    for split in ("train", "dev", "test"):
        (path / f"{split}.jsonl").write_text("\n".join(lines))
    return "intent:" + ",".join(str(path / f"{split}.jsonl") for split in ("train", "dev", "test"))


def test_retraining_moves_the_weights_and_exports_a_plain_graph(model: Path, tmp_path: Path) -> None:
    from modelkit.data.dataset import TaskFiles
    from modelkit.data.examples import source_of
    from modelkit.training.quantization_aware import retrain

    source = source_of((TaskFiles.parse(write_data(tmp_path)),), "train", {})
    said: list[str] = []
    file = tmp_path / "trained.onnx"
    retrain(
        ModelDirectory.open(model),
        model / "checkpoint",
        source,
        batches(),
        Retraining("weight_int4", epochs=2, threads=1),
        file,
        said.append,
    )
    assert said[-1].startswith("weight_int4: training with its rounding, step 2 of 2, divergence ")
    before, after = onnx.load(model / "fp32" / "model.onnx"), onnx.load(file)
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    ids, mask = batches()[0]
    answers = [
        Graph(one, (None, None)).answers(ids, mask)["intent_logits"]
        for one in (model / "fp32" / "model.onnx", file)
    ]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 1


def test_retraining_brings_rounded_answers_nearer_to_those_before(model: Path, tmp_path: Path) -> None:
    from modelkit.data.dataset import TaskFiles
    from modelkit.data.examples import source_of
    from modelkit.training.quantization_aware import retrain

    source = source_of((TaskFiles.parse(write_data(tmp_path)),), "train", {})
    said: list[str] = []
    how = Retraining("weight_int4", epochs=40, threads=1, rate=1e-3)
    directory, checkpoint = ModelDirectory.open(model), model / "checkpoint"
    retrain(directory, checkpoint, source, batches(), how, tmp_path / "out.onnx", said.append)
    divergences = [float(line.rpartition(" ")[2]) for line in said]
    assert np.mean(divergences[-10:]) < 0.5 * np.mean(divergences[:3])


def test_mistakes_are_named(model: Path, tmp_path: Path) -> None:
    from modelkit.data.dataset import TaskFiles
    from modelkit.data.examples import source_of
    from modelkit.training.checkpoint import write_checkpoint
    from modelkit.training.network import load_base
    from modelkit.training.quantization_aware import load_trained, retrain

    source = source_of((TaskFiles.parse(write_data(tmp_path)),), "train", {})
    directory = ModelDirectory.open(model)

    def told(checkpoint: Path, scheme: str) -> str:
        how = Retraining(scheme, epochs=1, threads=1)
        with pytest.raises(UsageError) as caught:
            retrain(directory, checkpoint, source, batches(), how, tmp_path / "out.onnx", lambda line: None)
        return str(caught.value)

    assert "scheme 'fp16' can't be trained for; allowed: per_token, static_minmax" in told(
        model / "checkpoint", "fp16"
    )
    torch.manual_seed(4)
    other = tmp_path / "other"
    other.mkdir()
    tokenizer = model / "tokenizer.json"
    write_checkpoint(load_base(model / "checkpoint", TASKS, 0.0, tokenizer), tokenizer, other)
    assert "other weights than those of the fp32 graph" in told(other, "weight_int4")
    strange = (TASKS[0].model_copy(update={"name": "mood"}),)
    with pytest.raises(UsageError, match="no head for task 'mood' with its labels; there: none"):
        load_trained(model / "checkpoint", strange)
