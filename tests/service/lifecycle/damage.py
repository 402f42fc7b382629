"""What can be wrong with a model directory: each does one harm, and the words of the refusal that it gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory, sha256_of
from tests.tiny_model import write_tiny_model


def _respecified(path: Path, **changes: Any) -> None:
    directory = ModelDirectory.open(path)
    ModelDirectory(path, directory.spec.model_copy(update=changes)).save()


def bad_digest(path: Path) -> None:
    with (path / "int8" / "model.onnx").open("ab") as graph:
        graph.write(b"\0")


def half_a_graph(path: Path) -> None:
    """Cut, and described as if it were meant so."""
    graph = path / "int8" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    spec = ModelDirectory.open(path).spec
    int8 = spec.variants["int8"].model_copy(update={"sha256": sha256_of(graph)})
    _respecified(path, variants={**spec.variants, "int8": int8})


def missing_graph(path: Path) -> None:
    (path / "int8" / "model.onnx").unlink()


def missing_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def garbage_tokenizer(path: Path) -> None:
    """With the right digest."""
    _tokenizer(path, b'{"version": "1.0", "model"')


def no_unknown_token(path: Path) -> None:
    """Text that has another word can't be encoded."""
    document = json.loads((path / "tokenizer.json").read_text())
    document["model"]["unk_token"] = "[NONE]"
    _tokenizer(path, json.dumps(document).encode())


def no_unknown_piece(path: Path) -> None:
    """The same of another kind of tokenizer."""
    document = json.loads((path / "tokenizer.json").read_text())
    document["model"] = {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]], "byte_fallback": False}
    _tokenizer(path, json.dumps(document).encode())


def other_tokenizer(path: Path) -> None:
    """Of a model with more words than this one's graph knows."""
    document = json.loads((path / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["xylophone"] = len(vocabulary)
    _tokenizer(path, json.dumps(document).encode())


def missing_labels(path: Path) -> None:
    first, *others = ModelDirectory.open(path).spec.tasks
    _respecified(path, tasks=(first.model_copy(update={"labels": first.labels[:-1]}), *others))


def missing_task(path: Path) -> None:
    _respecified(path, tasks=ModelDirectory.open(path).spec.tasks[:1])


def other_output(path: Path) -> None:
    first, *others = ModelDirectory.open(path).spec.tasks
    _respecified(path, tasks=(first.model_copy(update={"output": "topics"}), *others))


def other_model(path: Path) -> None:
    write_tiny_model(path, name="other-text")


def no_numbers(path: Path) -> None:
    write_tiny_model(path, scale=float("nan"))


def other_padding(path: Path) -> None:
    """A token that the graph doesn't have, for texts of different lengths."""
    _respecified(path, pad_token_id=100_000)


def not_yaml(path: Path) -> None:
    (path / MODEL_FILE).write_text("name: [")


def missing_yaml(path: Path) -> None:
    (path / MODEL_FILE).unlink()


def _tokenizer(path: Path, content: bytes) -> None:
    file = path / "tokenizer.json"
    file.write_bytes(content)
    spec = ModelDirectory.open(path).spec
    _respecified(path, tokenizer=spec.tokenizer.model_copy(update={"sha256": sha256_of(file)}))


DAMAGES: dict[Callable[[Path], None], str] = {
    bad_digest: "wrong or damaged file",
    half_a_graph: "ONNX Runtime can't load it",
    missing_graph: "variant = 'int8': not in model directory",
    missing_tokenizer: "can't be read",
    garbage_tokenizer: "not a tokenizers file",
    no_unknown_token: "WordPiece error: Missing",
    no_unknown_piece: "the tokenizer fails on a text of the rehearsal",
    other_tokenizer: "fails on a text of the rehearsal",
    missing_labels: "has 5 columns, model.yaml has 4 labels",
    missing_task: "tasks: ner is missing",
    other_output: "output 'topics' of model.yaml is not in the graph",
    other_model: "name = 'other-text'",
    no_numbers: "is not finite for a text",
    other_padding: "fails on a text of the rehearsal",
    not_yaml: "not YAML",
    missing_yaml: "can't be read",
}
