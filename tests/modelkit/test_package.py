"""`minwatt model quantize` on a small graph: what it writes is scored and whole, or nothing is written."""

from __future__ import annotations

import errno
import itertools
import json
from pathlib import Path

import onnx
import pytest

from minwatt.cli import main
from minwatt.v1.decode import entity_spans
from minwatt.v1.model_dir import ModelDirectory, sha256_of
from modelkit.inference import Graph, encode, load_tokenizer, run_batch
from modelkit.scoring.evaluate import evaluate
from tests.modelkit.tiny_graph import saved, tiny_graph
from tests.tiny_model import INTENTS, TAGS, WORDS, write_tiny_model

SETS = {"intent": "questions", "entities": "people"}
EVEN = [f"{WORDS[i]} {WORDS[i + 1]} {WORDS[i + 2]}" for i in range(len(WORDS) - 2)]  # nothing is ever padded
UNEVEN = [" ".join(WORDS[: i + 1]) for i in range(len(WORDS))]  # padding has a say in `tiny_graph`'s answers


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory with fp32 on disk, and an int8 that no quantization gives."""
    path = write_tiny_model(tmp_path / "model")
    directory = ModelDirectory.open(path)
    vocabulary = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens).get_vocab_size()
    (path / "fp32").mkdir()
    file = saved(tiny_graph(1, words=vocabulary, places=64), path / "fp32" / "model.onnx")
    fp32 = directory.spec.variants["fp32"].model_copy(
        update={"sha256": sha256_of(file), "size_bytes": file.stat().st_size}
    )
    intent, entities = directory.spec.tasks
    changes = {
        "tasks": (intent, entities.model_copy(update={"name": "entities"})),
        "variants": {**directory.spec.variants, "fp32": fp32},
        "default_variant": "fp32",
    }
    ModelDirectory(path, directory.spec.model_copy(update=changes)).save()
    return path


def write_data(path: Path, model: Path, texts: list[str]) -> Path:
    """All three splits: `texts` with the answers that fp32 gives each of them alone."""
    directory = ModelDirectory.open(model)
    graph = Graph(directory.variant_file("fp32"))
    encoded = encode(load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens), texts)
    answers = [run_batch(graph, [one])[0] for one in encoded]
    lines = [
        json.dumps({"text": text, "label": INTENTS[answer.intents.argmax()]})
        for text, answer in zip(texts, answers, strict=True)
    ]
    sentences = []
    for text, one, answer in zip(texts, encoded, answers, strict=True):
        spans = entity_spans(answer.tags, one, TAGS, 0.0)
        rows, position = [], 0
        for word in text.split(" "):
            inside = next((span for span in spans if span.start <= position < span.end), None)
            tag = "O" if inside is None else f"{'B' if inside.start == position else 'I'}-{inside.label}"
            rows.append(f"{word}\t{tag}\n")
            position += len(word) + 1
        sentences.append("".join(rows))
    for folder in SETS.values():
        (path / folder).mkdir(parents=True)
    (path / "questions" / "labels.txt").write_text("\n".join(INTENTS))
    (path / "people" / "labels.txt").write_text("\n".join(TAGS))
    for split in ("train", "dev", "test"):
        (path / "questions" / f"{split}.jsonl").write_text("\n".join(lines))
        (path / "people" / f"{split}.conll").write_text("\n".join(sentences))
    return path


def run(model: Path, data: Path, *options: str) -> int:
    """The command's exit code."""
    sets = ["--intent-set", "questions", "--entity-set", "people"]
    with pytest.raises(SystemExit) as caught:
        main(["model", "quantize", str(model), "--data", str(data), *sets, *options])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def contents(model: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(model)): path.read_bytes()
        for path in model.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_int8_is_chosen_on_dev_and_scored_on_test(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(model)
    data = write_data(tmp_path / "data", model, EVEN)
    assert run(model, data) == 0
    assert "shipped as int8: " in capsys.readouterr().out
    after = contents(model)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"int8/model.onnx", "model.yaml", "quantization.json"}
    assert set(before) <= set(after)
    directory = ModelDirectory.open(model)
    assert (directory.spec.default_variant, list(directory.spec.variants)) == ("int8", ["int8", "fp32"])
    for score in evaluate(model, data, sets=SETS).variants:
        recorded = directory.spec.variants[score.variant].metrics
        expected = {"intent.accuracy": round(score.accuracy, 4), "entities.f1": round(score.entity_f1, 4)}
        assert recorded == expected
    schemes = json.loads((model / "quantization.json").read_text())
    assert schemes["split"] == "dev"
    assert schemes["variants"][0]["changed_labels"] == schemes["variants"][0]["changed_entities"] == 0
    assert not (model / ".cache" / "new").exists()


def test_what_is_kept_becomes_a_variant_of_its_own_name_and_scores(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", model, EVEN)
    assert run(model, data, "--scheme", "per_token", "--keep", "fp16", "--keep", "weight_int4") == 0
    assert "kept: fp16, weight_int4" in capsys.readouterr().out
    directory = ModelDirectory.open(model)
    assert list(directory.spec.variants) == ["int8", "fp16", "weight_int4", "fp32"]
    assert directory.spec.default_variant == "int8"
    assert directory.spec.variants["int8"].scheme == "per_token"
    assert directory.spec.variants["fp16"].scheme == "fp16"
    for name in directory.present_variants():
        assert directory.spec.variants[name].metrics.keys() == {"intent.accuracy", "entities.f1"}
        Graph(directory.variant_file(name))
    schemes = json.loads((model / "quantization.json").read_text())
    compared = [score["variant"] for score in schemes["variants"]]
    assert [name for name in compared if "+" not in name] == ["fp32", "per_token", "weight_int4", "fp16"]
    assert schemes["verdicts"]["per_token"].startswith("chosen: ")
    assert run(model, data, "--scheme", "weight_int8") == 0
    assert list(ModelDirectory.open(model).spec.variants) == ["int8", "fp16", "weight_int4", "fp32"]


def test_for_tensorrt_a_graph_is_kept_and_tried_where_it_can_be(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    data = write_data(tmp_path / "data", model, EVEN)
    assert run(model, data, "--scheme", "qdq", "--keep", "qdq", "--no-fall-back") == 0
    printed = capsys.readouterr()
    assert "kept: qdq" in printed.out
    assert "no trtexec on the PATH" in printed.err
    directory = ModelDirectory.open(model)
    assert directory.spec.default_variant == "fp32"
    assert {node.domain for node in onnx.load(directory.variant_file("qdq")).graph.node} == {""}


def test_what_depends_on_its_batch_is_not_kept(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(model)
    data = write_data(tmp_path / "data", model, UNEVEN)
    assert run(model, data, "--scheme", "fp16", "--keep", "fp16") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("keep = 'fp16': not written: answers depend on the batch: ")
    assert contents(model) == before


def test_what_loses_too_much_keeps_its_most_sensitive_parts_in_float32(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [" ".join(words) for words in itertools.permutations(WORDS[:7], 3)]
    data = write_data(tmp_path / "data", model, texts)
    assert run(model, data, "--scheme", "weight_int4", "--keep", "weight_int4") == 0
    report = json.loads((model / "quantization.json").read_text())
    [remedy] = report["remedies"]
    assert remedy["candidate"] == "weight_int4+fp32"
    assert remedy["lost"] < remedy["lost_before"]
    assert 1 <= len(remedy["left"]) <= remedy["parts"] // 2 + 1
    assert remedy["size_mb"] > remedy["size_mb_before"]
    assert "parts in float32 (" in capsys.readouterr().out
    int4 = ModelDirectory.open(model).spec.variants["weight_int4"]
    assert (int4.scheme, list(int4.float32_parts)) == ("weight_int4+fp32", remedy["left"])
    assert run(model, data, "--scheme", "weight_int4", "--no-fall-back") == 0
    assert "compared only" in capsys.readouterr().err


def test_options_that_can_not_be_are_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", model, EVEN)

    def told(*options: str) -> str:
        assert run(model, data, *options) == 2
        [line] = capsys.readouterr().err.splitlines()
        return line.removeprefix("minwatt model: ")

    assert told("--scheme", "int3").startswith("scheme = 'int3': allowed: per_token, ")
    assert told("--keep", "dynamic").startswith("keep = 'dynamic': never served: ")
    assert told("--qat-epochs", "1").startswith(f"qat-epochs = 1: no {model / 'checkpoint'}; `finetune`")


def test_where_no_scheme_passes_the_directory_stays_and_the_exit_code_is_1(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(model)
    assert run(model, write_data(tmp_path / "data", model, UNEVEN)) == 1
    printed = capsys.readouterr()
    assert "per_token" in printed.out
    [line] = printed.err.splitlines()
    assert line.startswith("no scheme stays within 0.003 of fp32 on dev and answers alike in any batch")
    assert contents(model) == before
    assert (model / ".cache" / "new" / "quantization.json").is_file()


def test_a_full_disk_is_one_line_and_the_directory_stays(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = write_data(tmp_path / "data", model, EVEN)
    before = contents(model)
    monkeypatch.setattr(onnx, "save", full)
    assert run(model, data) == 2
    assert capsys.readouterr().err == f"minwatt model: {model}: can't be written (No space left on device)\n"
    assert contents(model) == before


def test_a_directory_without_fp32_is_named(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_model, tmp_path) == 2
    expected = "no fp32 graph on disk; `minwatt model build` and `finetune` write one"
    assert capsys.readouterr().err == f"minwatt model: {tiny_model}: {expected}\n"
