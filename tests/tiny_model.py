"""A model directory for tests: a real tokenizer and a real two-head ONNX graph of a few kilobytes, written
in milliseconds.

It reads text as the shipped model does (WordPiece, lower case, accents stripped, [CLS] … [SEP]) and has its
inputs, outputs and dynamic shapes. Each text's answer depends on its own words alone. Intents are those of
a seeded random head; entities are known words (`ENTITY_WORDS`), so that a test can say what must be found.
Written without the `onnx` package: serving and its tests need none.

    PYTHONPATH=. python -m tests.tiny_model DIR     # writes one to serve by hand
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Task, TokenizerFile, Variant, sha256_of

INTENTS = ("balance", "card_arrival", "cancel", "exchange_rate", "greeting")
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
ENTITY_WORDS = {
    "alice": "B-PER", "jose": "B-PER", "smith": "I-PER", "acme": "B-ORG", "bank": "I-ORG",
    "paris": "B-LOC", "new": "B-LOC", "york": "I-LOC", "東": "B-LOC", "京": "I-LOC",
}  # fmt: skip
WORDS = (
    "where",
    "is",
    "my",
    "card",
    "the",
    "balance",
    "of",
    "cancel",
    "it",
    "rate",
    "hello",
    "in",
    "at",
    "lives",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_TOKENS = 64
WIDTH = len(TAGS) + 9  # of an embedding: the tags' logits, then what the intent head reads

INT64, FLOAT = 7, 1  # TensorProto.DataType


SEED = 7


def write_tiny_model(
    path: Path,
    name: str = "tiny-text",
    version: str = "1",
    variants: Sequence[str] = ("int8",),
    seed: int = SEED,
    scale: float = 1.0,
) -> Path:
    """Writes the directory (made if need be) and returns it. The same bytes each time.

    Each variant has weights of its own, from `seed` on: its answers tell which one gave them. `scale` is that
    of the intents' logits.
    """
    vocabulary = _vocabulary()
    path.mkdir(parents=True, exist_ok=True)
    _tokenizer(vocabulary).save(str(path / "tokenizer.json"))
    for index, variant in enumerate(variants):
        (path / variant).mkdir(exist_ok=True)
        (path / variant / "model.onnx").write_bytes(_graph(vocabulary, seed + index, scale))
    ModelDirectory(path, _spec(path, name, version, variants)).save()
    return path


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
    marks = list(".,?!'-:;")
    tokens = [*SPECIAL, *ENTITY_WORDS, *WORDS, *letters, *(f"##{letter}" for letter in letters), *marks]
    return {token: index for index, token in enumerate(tokens)}


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    return tokenizer


def _spec(path: Path, name: str, version: str, variants: Sequence[str]) -> ModelSpec:
    return ModelSpec(
        name=name,
        version=version,
        description="Random weights: for tests.",
        max_tokens=MAX_TOKENS,
        tokenizer=TokenizerFile(sha256=sha256_of(path / "tokenizer.json")),
        tasks=(
            Task(name="intent", kind="classification", output="intent_logits", labels=INTENTS),
            Task(name="entity", kind="ner", output="entity_logits", labels=TAGS),
        ),
        default_variant=variants[0],
        variants={
            **{variant: _variant(path, f"{variant}/model.onnx") for variant in variants},
            "fp32": Variant(file="fp32/model.onnx", sha256="0" * 64, size_bytes=1),  # listed, not on disk
        },
    )


def _variant(path: Path, file: str) -> Variant:
    graph = path / file
    return Variant(file=file, sha256=sha256_of(graph), size_bytes=graph.stat().st_size)


def _graph(vocabulary: dict[str, int], seed: int, scale: float) -> bytes:
    """Embedding; entity head on each token; intent head on the mean over the mask."""
    random = np.random.default_rng(seed)
    table = random.normal(0, 1, (len(vocabulary), WIDTH)).astype(np.float32)
    table[:, : len(TAGS)] = np.eye(len(TAGS), dtype=np.float32)[0] * 6
    for word, tag in ENTITY_WORDS.items():
        table[vocabulary[word], : len(TAGS)] = np.eye(len(TAGS), dtype=np.float32)[TAGS.index(tag)] * 6
    entity = np.vstack([np.eye(len(TAGS)), np.zeros((WIDTH - len(TAGS), len(TAGS)))]).astype(np.float32)
    intent = random.normal(0, 2, (WIDTH, len(INTENTS))).astype(np.float32)
    intent[: len(TAGS)] = 0
    intent *= np.float32(scale)
    nodes = [
        _node("Gather", ["table", "input_ids"], "embedded"),
        _node("MatMul", ["embedded", "entity"], "entity_logits"),
        _node("Cast", ["attention_mask"], "mask", to=FLOAT),
        _node("Unsqueeze", ["mask", "last_axis"], "mask3"),
        _node("Mul", ["embedded", "mask3"], "masked"),
        _node("ReduceSum", ["masked", "tokens_axis"], "summed", keepdims=0),
        _node("ReduceSum", ["mask", "tokens_axis"], "count", keepdims=1),
        _node("Div", ["summed", "count"], "pooled"),
        _node("MatMul", ["pooled", "intent"], "intent_logits"),
    ]
    weights: dict[str, NDArray[np.generic]] = {
        "table": table, "entity": entity, "intent": intent,
        "last_axis": np.array([2], np.int64), "tokens_axis": np.array([1], np.int64),
    }  # fmt: skip
    inputs = [_value(name, INT64, ("batch", "tokens")) for name in ("input_ids", "attention_mask")]
    outputs = [
        _value("intent_logits", FLOAT, ("batch", len(INTENTS))),
        _value("entity_logits", FLOAT, ("batch", "tokens", len(TAGS))),
    ]
    graph = (
        b"".join(_field(1, node) for node in nodes)
        + _field(2, "tiny")
        + b"".join(_field(5, _tensor(name, array)) for name, array in weights.items())
        + b"".join(_field(11, value) for value in inputs)
        + b"".join(_field(12, value) for value in outputs)
    )
    return (
        _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))
    )  # ir_version, graph, opset_import.version


# onnx.proto's messages in protobuf's wire format; the numbers are its field numbers.


def _node(op: str, inputs: list[str], output: str, **attributes: int) -> bytes:
    message = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, op)
    for name, value in attributes.items():
        message += _field(5, _field(1, name) + _field(3, value) + _field(20, 2))  # type INT
    return message


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    return (
        dims
        + _field(2, INT64 if array.dtype == np.int64 else FLOAT)
        + _field(8, name)
        + _field(9, array.tobytes())
    )


def _value(name: str, element: int, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, dims)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


if __name__ == "__main__":
    write_tiny_model(Path(sys.argv[1]))
