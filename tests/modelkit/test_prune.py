"""Pruning a tiny encoder: laws of the surgery, and a command whose model serves, reloads and goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, Task
from modelkit.card.parameters import parameters_of
from modelkit.cli import app
from modelkit.compress.prune_options import PruneOptions
from modelkit.data.dataset import read_datasets
from modelkit.recipe import FinetuneOptions
from tests.modelkit.tiny_base import write_base
from tests.modelkit.tiny_tasks import QUICK, write_people, write_texts

torch = pytest.importorskip("torch", reason="pruning needs the train extra")
pytest.importorskip("transformers", reason="pruning needs the train extra")
onnx = pytest.importorskip("onnx", reason="pruning needs the train extra")
pytest.importorskip("sklearn", reason="pruning needs the train extra")

if TYPE_CHECKING:
    from modelkit.training.network import MultiTaskEncoder

TASKS = (
    Task(name="intent", kind="classification", output="intent_logits", labels=("a", "b", "c")),
    Task(name="people", kind="ner", output="people_logits", labels=("O", "B-PER", "I-PER")),
)
LAYERS, HEADS, WIDTH = 2, 4, 96  # of `write_base`
IDS = np.array([[2, 5, 6, 7, 3, 0], [2, 8, 9, 10, 11, 3], [2, 3, 0, 0, 0, 0]])
MASK = (IDS != 0).astype(np.int64)
KEPT_HEADS = ((0, 2, 3), (1, 2))
KEPT_UNITS = (tuple(range(0, 96, 2)), tuple(range(32)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def network(base: Path) -> MultiTaskEncoder:
    """With random weights; tests change copies of it."""
    from modelkit.training.network import load_base

    torch.manual_seed(1)
    network = load_base(base, TASKS, 0.0, base / "tokenizer.json").eval()
    for parameter in network.parameters():
        if parameter.ndim == 1:  # at first all biases are zero, and exported as one
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def answers(network: MultiTaskEncoder) -> list[Any]:
    with torch.inference_mode():
        return [one.numpy() for one in network(torch.from_numpy(IDS), torch.from_numpy(MASK))]


def alike(one: Sequence[Any], other: Sequence[Any], tolerance: float = 2e-5) -> bool:
    """Of tokens that are no padding: a shape with other padding may not matter, but these are the same."""
    return all(np.abs(a - b).max() <= tolerance for a, b in zip(one, other, strict=True))


def pruned(network: MultiTaskEncoder) -> MultiTaskEncoder:
    from modelkit.compress.lowrank import factorise
    from modelkit.compress.prune_structure import keep_heads, keep_units

    lean = copy.deepcopy(network)
    keep_heads(lean, KEPT_HEADS)
    keep_units(lean, KEPT_UNITS)
    factorise(lean, {(0, "ffn.in"): 5, (1, "ffn.out"): 7})
    return lean


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_taking_out_is_multiplying_by_zero(network: MultiTaskEncoder, data: st.DataObject) -> None:
    from modelkit.compress.prune_importance import gate_without, gated
    from modelkit.compress.prune_structure import keep_heads, keep_units

    def subset(pieces: int) -> list[int]:
        return sorted(data.draw(st.sets(st.integers(0, pieces - 1), min_size=1)))

    heads, units = ([subset(pieces) for _ in range(LAYERS)] for pieces in (HEADS, WIDTH))
    gates = [
        [gate_without(pieces, sorted(set(range(pieces)).difference(kept))) for kept in of_kind]
        for pieces, of_kind in ((HEADS, heads), (WIDTH, units))
    ]
    before = answers(network)
    with gated(network, *gates):
        expected = answers(network)
    assert alike(before, answers(network), 0.0)
    lean = copy.deepcopy(network)
    keep_heads(lean, heads)
    keep_units(lean, units)
    assert alike(expected, answers(lean))


def test_heads_and_units_that_give_nothing_are_weightless_and_go_without_a_trace(
    network: MultiTaskEncoder,
) -> None:
    from modelkit.compress.prune_importance import fisher, l1, least
    from modelkit.compress.prune_structure import keep_heads, keep_units
    from modelkit.training.batches import Batch

    idle = copy.deepcopy(network)
    with torch.no_grad():
        for layer in idle.encoder.encoder.layer:
            size = 16
            for part in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
                part.weight[size : 2 * size] = 0.0
                part.bias[size : 2 * size] = 0.0
            layer.attention.output.dense.weight[:, size : 2 * size] = 0.0
            layer.intermediate.dense.weight[:16] = 0.0
            layer.intermediate.dense.bias[:16] = 0.0
            layer.output.dense.weight[:, :16] = 0.0
    batches = [
        [Batch(torch.from_numpy(IDS), torch.from_numpy(MASK), torch.tensor([0, 1, 2]))],
        [Batch(torch.from_numpy(IDS), torch.from_numpy(MASK), torch.from_numpy(np.where(MASK, 1, -100)))],
    ]
    for importance in (fisher(idle, batches), l1(idle)):
        assert [least(one, 1) for one in importance.heads] == [[1]] * LAYERS
        assert [sorted(least(one, 16)) for one in importance.units] == [list(range(16))] * LAYERS
        assert all(float(one.min()) == 0.0 < float(one.max()) for one in importance.heads)
    lean = copy.deepcopy(idle)
    keep_heads(lean, [[0, 2, 3]] * LAYERS)
    keep_units(lean, [range(16, WIDTH)] * LAYERS)
    assert alike(answers(idle), answers(lean))


def test_a_gate_s_gradient_is_each_text_s_own(network: MultiTaskEncoder) -> None:
    """A text's share in the Fisher information does not depend on the batch that it is in."""
    from modelkit.compress.prune_importance import fisher
    from modelkit.training.batches import Batch

    ids, mask, labels = torch.from_numpy(IDS), torch.from_numpy(MASK), torch.tensor([0, 1, 2])
    together = fisher(network, [[Batch(ids, mask, labels)], []])
    alone = fisher(
        network, [[Batch(ids[i : i + 1], mask[i : i + 1], labels[i : i + 1]) for i in range(3)], []]
    )
    for one, other in zip((*together.heads, *together.units), (*alone.heads, *alone.units), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_all_singular_values_give_the_answers_and_fewer_the_nearest_matrix(network: MultiTaskEncoder) -> None:
    from modelkit.compress.lowrank import RankChoice, chosen_ranks, factorise, factorised
    from modelkit.training.lean_encoder import whole

    full = copy.deepcopy(network)
    factorise(full, {(layer, name): 64 for layer in range(LAYERS) for name in ("ffn.in", "ffn.out")})
    assert alike(answers(network), answers(full))
    dense = network.encoder.encoder.layer[0].intermediate.dense
    matrix = dense.weight.detach()
    values = torch.linalg.svdvals(matrix)
    for rank in (1, 10, 63):
        error = torch.linalg.norm(whole(factorised(dense, rank)).weight.detach() - matrix)
        assert float(error) == pytest.approx(float(torch.linalg.norm(values[rank:])), rel=1e-3)
    assert RankChoice(energy=1.0).of(values) == 64
    assert RankChoice(rank=500).of(values) == 64
    half = RankChoice(energy=0.5).of(values)
    assert float((values[:half] ** 2).sum()) >= 0.5 * float((values**2).sum())
    assert float((values[: half - 1] ** 2).sum()) < 0.5 * float((values**2).sum())
    # 38 × (64 + 96) = 6,080 < 64 × 96 = 6,144 < 39 × (64 + 96)
    assert len(chosen_ranks(network, RankChoice(rank=38))) == 2 * LAYERS
    assert chosen_ranks(network, RankChoice(rank=39)) == {}


def test_a_pruned_checkpoint_reloads_to_the_same_answers(
    network: MultiTaskEncoder, base: Path, tmp_path: Path
) -> None:
    from modelkit.training.checkpoint import load_checkpoint, write_checkpoint

    lean = pruned(network)
    folder = tmp_path / "checkpoint"
    write_checkpoint(lean, base / "tokenizer.json", folder)
    assert alike(answers(lean), answers(load_checkpoint(folder)), 0.0)
    config = json.loads((folder / "config.json").read_text())
    assert config["layer_shapes"][0] == {"heads": 3, "width": 48, "rank_in": 5, "rank_out": None}
    config["layer_shapes"].pop()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="layer_shapes: 1 layers; the encoder has 2"):
        load_checkpoint(folder)


def test_a_pruned_model_teaches_a_student(network: MultiTaskEncoder, base: Path, tmp_path: Path) -> None:
    from modelkit.recipe import StudentShape
    from modelkit.training.checkpoint import load_checkpoint, write_checkpoint
    from modelkit.training.student import make_student

    lean = pruned(network)
    same = make_student(lean, StudentShape(layers=1, hidden_size=32, heads=2, feed_forward=32), TASKS, 0.0)
    assert not any("random" in note for note in same.notes)
    wider = make_student(lean, StudentShape(layers=2), TASKS, 0.0)
    assert any("random" in note and "attention, feed-forward" in note for note in wider.notes)
    write_checkpoint(wider.network, base / "tokenizer.json", tmp_path / "student")
    assert alike(answers(wider.network.eval()), answers(load_checkpoint(tmp_path / "student")), 0.0)


def test_adapters_fit_a_pruned_encoder_and_are_merged(network: MultiTaskEncoder) -> None:
    pytest.importorskip("peft", reason="adapters need the train extra")
    from modelkit.training.lora import add_adapters, merge_adapters

    lean = pruned(network).eval()
    before = answers(lean)
    add_adapters(lean, rank=2, frozen_layers=1, dropout=0.0)
    adapted = [name for name, weights in lean.encoder.named_parameters() if weights.requires_grad]
    assert adapted
    assert all(".layer.1." in name for name in adapted)
    merge_adapters(lean)
    assert alike(before, answers(lean))  # an adapter begins as nothing


def test_rounding_knows_what_follows_the_activation_in_a_factored_layer(network: MultiTaskEncoder) -> None:
    from modelkit.compress.lowrank import factorise
    from modelkit.training.fake_quantization import add_rounding, paired_weights, rows_after_gelu

    lean = copy.deepcopy(network)
    factorise(lean, {(0, "ffn.out"): 3})
    add_rounding(lean, "per_token", [])
    after = [
        name for name, module in lean.named_modules() if getattr(module, "inputs", None) is rows_after_gelu
    ]
    assert [name.split("layer.")[-1] for name in after] == ["0.output.dense.0", "1.output.dense"]
    single = torch.tensor([[0.5], [-2.0]])
    assert torch.allclose(paired_weights(single), single, atol=0.02)


def test_a_pruned_graph_is_fused_answers_alike_and_is_smaller_by_what_went(
    network: MultiTaskEncoder, tmp_path: Path
) -> None:
    from modelkit.export import export
    from modelkit.inference import Graph
    from modelkit.package import quiet

    lean = pruned(network)
    files = {}
    with quiet():
        for name, one in (("whole", network), ("lean", lean)):
            files[name] = tmp_path / f"{name}.onnx"
            export(one, files[name])
    nodes = onnx.load(files["lean"]).graph.node
    counts = [node.attribute[0].i for node in nodes if node.op_type == "MultiHeadAttention"]
    assert counts == [len(heads) for heads in KEPT_HEADS]
    fused = {"BiasGelu": LAYERS, "SkipLayerNormalization": 2 * LAYERS, "EmbedLayerNormalization": 1}
    assert {name: sum(node.op_type == name for node in nodes) for name in fused} == fused
    graph = Graph(files["lean"], ("intent_logits", "people_logits"))
    intents, tags = graph.run(IDS, MASK)
    expected = answers(lean)
    assert np.abs(intents - expected[0]).max() < 2e-5
    assert np.abs(tags - expected[1])[MASK == 1].max() < 2e-5
    went = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in lean.parameters())
    assert parameters_of(files["whole"]) - parameters_of(files["lean"]) == went > 0


def test_the_smallest_weights_of_all_matrices_go(network: MultiTaskEncoder) -> None:
    from modelkit.compress.prune_zeros import matrices, zero_share, zero_smallest

    sparse = pruned(network)
    before = [matrix.weight.detach().clone() for _, _, matrix in matrices(sparse)]
    zero_smallest(sparse, 0.6)
    assert zero_share(sparse) == pytest.approx(0.6, abs=1e-4)
    largest_gone, smallest_kept = 0.0, float("inf")
    for (_, _, matrix), weight in zip(matrices(sparse), before, strict=True):
        gone = matrix.weight == 0
        assert torch.equal(matrix.weight[~gone], weight[~gone])
        largest_gone = max(largest_gone, float(weight[gone].abs().max()))
        smallest_kept = min(smallest_kept, float(weight[~gone].abs().min()))
    assert largest_gone <= smallest_kept


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FinetuneOptions:
    """What made a model of two tasks that knows its answers."""
    from modelkit.training.finetune import finetune
    from modelkit.training.hearers import Hearers

    path = tmp_path_factory.mktemp("model")
    options = FinetuneOptions(
        tasks=(write_texts(path), write_people(path)),
        out_dir=path / "mine",
        name="mine",
        base=write_base(path / "base"),
        training=replace(QUICK, epochs=20),
    )
    datasets = read_datasets(options.tasks)
    finetune(options, datasets, (), Hearers(lambda line: None, lambda done, total: None))
    return options


def lean_options(model: FinetuneOptions, out: Path, **changes: Any) -> PruneOptions:
    return replace(
        PruneOptions(
            model_dir=model.out_dir,
            tasks=model.tasks,
            out_dir=out,
            name="lean",
            training=replace(QUICK, epochs=2),
        ),
        **changes,
    )


def run(options: PruneOptions, stop_at: str | None = None) -> tuple[Any, list[str]]:
    """The report, and what it said; it is killed at a line that begins so."""
    from modelkit.compress.prune import prune
    from modelkit.compress.prune_source import read_source
    from modelkit.training.hearers import Hearers

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if stop_at is not None and line.startswith(stop_at):
            raise KeyboardInterrupt

    return prune(options, read_source(options), Hearers(say, lambda done, total: None)), said


def test_a_model_is_pruned_recovers_and_is_taken_by_the_other_commands(
    model: FinetuneOptions, tmp_path: Path
) -> None:
    files = [f"{one.name}:{','.join(map(str, one.splits.values()))}" for one in model.tasks]
    tasks = [word for one in files for word in ("--task", one)]
    out = tmp_path / "lean"
    arguments = ["prune", str(model.out_dir), *tasks, "--out", str(out)]
    shares = ["--heads", "0.25", "--width", "0.5", "--rank", "8"]
    quick = ["--epochs", "4", "--encoder-rate", "1e-3", "--batch-size", "8", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, *shares, *quick, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert sum(layer["heads"] for layer in report["layers"]) == 6  # of 2 × 4
    assert sum(layer["width"] for layer in report["layers"]) == 96  # of 2 × 96
    assert [layer["rank_in"] for layer in report["layers"]] == [8, 8]
    assert [stage["stage"] for stage in report["stages"]] == ["unpruned", "pruned", "recovered"]
    assert report["stages"][-1]["dev"] == {"intent.accuracy": 1.0, "people.f1": 1.0}
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert {one["part"] for one in report["sensitivity"]} == {"heads", "width", "rank ffn.in", "rank ffn.out"}
    directory = ModelDirectory.open(out)
    assert directory.spec.name == "lean"
    assert directory.spec.provenance is not None
    assert directory.spec.provenance.base == report["pruned_from"]
    assert directory.spec.provenance.data.keys() == {"intent", "people"}
    assert directory.spec.variants["fp32"].metrics == {"intent.accuracy": 1.0}
    assert report["after"]["bytes"] == directory.spec.variants["fp32"].size_bytes
    assert sorted(path.name for path in (out / ".cache").iterdir()) == ["sensitivity.json"]

    again = [*arguments, "--heads", "0.5", "--width", "0.25", "--rank", "8", "--epochs", "0"]
    result = CliRunner().invoke(app, again, catch_exceptions=False)
    assert "going on from the scan in" in " ".join(result.stderr.split())
    assert "heads of all layers" in result.stdout
    result = CliRunner().invoke(app, ["evaluate", str(out), *tasks, "--split", "dev", "--json"])
    assert json.loads(result.stdout)["variants"][0]["company_label_flips"] == 0


def test_a_pruned_model_is_trained_on_and_pruned_again(model: FinetuneOptions, tmp_path: Path) -> None:
    from modelkit.training.finetune import finetune
    from modelkit.training.hearers import Hearers

    once = lean_options(model, tmp_path / "once", heads=0.25, width=0.25, energy=0.5, importance="l1")
    run(replace(once, training=replace(QUICK, epochs=0)))
    onward = replace(
        model,
        out_dir=tmp_path / "onward",
        base=once.out_dir / "checkpoint",
        training=replace(QUICK, epochs=1),
    )
    datasets = read_datasets(onward.tasks)
    finetune(onward, datasets, (), Hearers(lambda line: None, lambda done, total: None))
    report, _ = run(
        lean_options(model, tmp_path / "twice", model_dir=onward.out_dir, heads=0.3, width=0.25, rank=4)
    )
    assert sum(layer.heads for layer in report.layers_before) == 6
    assert sum(layer.heads for layer in report.layers) == 4
    assert {layer.rank_in for layer in report.layers} == {4}


def test_zeros_stay_zero_through_recovery_and_a_kill_and_are_no_speed_up(
    model: FinetuneOptions, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    from modelkit.compress.prune_zeros import matrices, zero_smallest
    from modelkit.training.checkpoint import load_checkpoint

    whole = lean_options(model, tmp_path / "whole", zeros=0.5, teacher=True)
    report, _ = run(whole)
    assert report.after.zeros == pytest.approx(0.5, abs=1e-4)
    assert report.after.parameters == report.before.parameters
    assert report.verdict.startswith("50% of the matrices' weights are zero")
    before, after = (load_checkpoint(one.out_dir / "checkpoint") for one in (model, whole))
    zero_smallest(before, 0.5)
    for (_, _, one), (_, _, other) in zip(matrices(before), matrices(after), strict=True):
        assert torch.equal(one.weight == 0, other.weight == 0)
        assert not torch.equal(one.weight, other.weight)

    killed = replace(whole, out_dir=tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        run(killed, stop_at="epoch 2 ")
    assert not (killed.out_dir / "model.yaml").exists()
    _, said = run(killed)
    assert [line.split(":")[0] for line in said if line.startswith("epoch")] == ["epoch 2 of 2"]
    assert any(line.startswith("going on from the scan") for line in said)
    for file in ("model.safetensors", "heads.safetensors"):
        weights, others = (load_file(each.out_dir / "checkpoint" / file) for each in (whole, killed))
        for name, tensor in weights.items():
            assert torch.equal(tensor, others[name]), name


def test_the_part_of_dev_scores_as_the_whole_is_scored(
    model: FinetuneOptions, network: MultiTaskEncoder
) -> None:
    from modelkit.compress.dev_set import DevSet
    from modelkit.data.dataset import DEV, read_datasets
    from modelkit.inference import load_tokenizer
    from modelkit.training.checkpoint import load_checkpoint
    from modelkit.training.network_scores import score

    datasets = read_datasets(model.tasks)
    tokenizer = load_tokenizer(model.out_dir / "tokenizer.json", 32)
    fresh = load_checkpoint(model.out_dir / "checkpoint")
    torch.nn.init.normal_(fresh.task_heads[0].weight)  # else all is right
    quality = DevSet(datasets, tokenizer, 1000, 1).quality(fresh)
    expected = [score(fresh, one.task, tokenizer, one.splits[DEV], DEV).score for one in datasets]
    assert list(quality.scores) == pytest.approx(expected)
    assert quality.loss > 0


def test_mistakes_are_named_before_the_work(model: FinetuneOptions, tmp_path: Path) -> None:
    good = lean_options(model, tmp_path / "lean", heads=0.25)

    def told(**changes: Any) -> str:
        with pytest.raises(UsageError) as caught:
            run(replace(good, **changes))
        return str(caught.value)

    assert told(heads=0.8) == "heads = 0.8: allowed: 0 to 0.75"
    assert told(heads=0.0).startswith("nothing to prune")
    assert told(rank=3, energy=0.5).startswith("rank and energy: both are given")
    assert told(rank=60, heads=0.0).startswith("rank: no feed-forward matrix gets smaller by it")
    assert (
        told(tasks=model.tasks[:1])
        == "task: no files for 'people'; expected each of the model's, and no other"
    )
    assert told(out_dir=model.out_dir).startswith(f"out = {str(model.out_dir)!r}: the model that is pruned")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.yaml").write_bytes((model.out_dir / "model.yaml").read_bytes())
    assert told(model_dir=bare) == f"{bare}: no checkpoint/ in it; `minwatt model finetune` writes one"
    people, texts = model.tasks[1], model.tasks[0]
    swapped = (replace(people, name="intent"), replace(texts, name="people"))
    assert told(tasks=swapped).startswith("task 'intent': other labels than the model's")
    assert not (tmp_path / "lean" / "model.yaml").exists()
