"""Runs a model's graph on texts, offline: no server, no torch, one thread of ONNX Runtime.

Owns tokenisation, padding and the session (the only file of `modelkit` that opens one). Leaves the
meaning of logits to `minwatt.v1.decode` and scores to `evaluate`. Called by `answers`,
`evaluate`, `speed`, `package`, `build`, `mask.names`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("intent_logits", "entity_logits")
Provider = Literal["cpu", "cuda"]
PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Logits:
    """What the model says of one text: intents [labels], and tags [tokens, labels] without padding."""

    intents: Floats
    tags: Floats


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer without padding and truncation. Raises UsageError when the file is no tokenizer."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UsageError(f"{path}: not a tokenizers file: {' '.join(str(error).split())[:200]}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The tokenizer without padding; texts are cut at `max_tokens`, special tokens included."""
    tokenizer = read_tokenizer(path)
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[EncodedText]:
    """Tokenise texts as the server does, one `EncodedText` each."""
    return [
        EncodedText(encoding.ids, encoding.word_ids, encoding.offsets, truncated=bool(encoding.overflowing))
        for encoding in tokenizer.encode_batch(list(texts))
    ]


def encode_windows(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> Iterator[tuple[int, EncodedText]]:
    """(its text's number, window) of all that the texts hold: one that is cut goes on in further windows.

    A window begins with the last quarter of the one before; offsets are those of the whole text.
    """
    tokenizer.enable_truncation(max_tokens, stride=max_tokens // 4)
    for number, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        for window in (encoding, *encoding.overflowing):
            yield number, EncodedText(window.ids, window.word_ids, window.offsets)


class Runner(Protocol):
    """What answers a padded batch: a graph, or a network in training."""

    def run(self, ids: Ids, mask: Ids) -> tuple[Floats, Floats]:
        """Logits ([batch, intents], [batch, tokens, tags]) for ids and mask [batch, tokens]."""


class Graph:
    """One ONNX graph with an intent head and an entity head (the two `outputs`), on one CPU thread or a card.

    Of a head that it has not (None), each text's and each token's logits are a single 0.
    Raises UsageError when the file is no such graph, or ONNX Runtime has not the provider.
    """

    def __init__(
        self, file: Path, outputs: tuple[str | None, str | None] = OUTPUTS, provider: Provider = "cpu"
    ) -> None:
        named = PROVIDERS[provider]
        if named not in _available():
            there = ", ".join(key for key, name in PROVIDERS.items() if name in _available())
            raise UsageError(f"provider = {provider!r}: this ONNX Runtime has {there}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.size_bytes = file.stat().st_size
        self._outputs = outputs
        self._present = [output for output in outputs if output is not None]
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=list(dict.fromkeys([named, PROVIDERS["cpu"]]))
            )
        except Exception as error:  # ORT raises a dozen own types that share no public base
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{file}: not a graph that ONNX Runtime runs: {reason}") from error
        if self._session.get_providers()[0] != named:  # it falls back in silence where a driver is missing
            raise UsageError(f"provider = {provider!r}: ONNX Runtime can't use it on this machine")
        # Output name -> its columns, one a label; no number where the graph leaves them open.
        self.columns = {output.name: output.shape[-1] for output in self._session.get_outputs()}
        if missing := set(self._present).difference(self.columns):
            raise UsageError(f"{file}: no output {min(missing)!r}; there: {', '.join(self.columns)}")

    def run(self, ids: Ids, mask: Ids) -> tuple[Floats, Floats]:
        """Logits ([batch, intents], [batch, tokens, tags]) for ids and mask [batch, tokens]."""
        results = self._session.run(self._present, dict(zip(INPUTS, (ids, mask), strict=True)))
        logits: dict[str | None, Floats] = dict(zip(self._present, results, strict=True))
        intents, tags = self._outputs
        return (
            logits.get(intents, np.zeros((len(ids), 1), np.float32)),
            logits.get(tags, np.zeros((*ids.shape, 1), np.float32)),
        )

    def answers(self, ids: Ids, mask: Ids) -> dict[str, Floats]:
        """Every output of the graph by its name, however many heads it has."""
        names = list(self.columns)
        feed = dict(zip(INPUTS, (ids, mask), strict=True))
        return dict(zip(names, self._session.run(names, feed), strict=True))


def _available() -> list[str]:
    names: list[str] = onnxruntime.get_available_providers()
    return names


def run_batch(runner: Runner, batch: Sequence[EncodedText]) -> list[Logits]:
    """One forward pass of texts padded to the longest of them."""
    ids, mask = pad(batch)
    intents, tags = runner.run(ids, mask)
    return [Logits(intents[row], tags[row, : len(encoded)]) for row, encoded in enumerate(batch)]


def run_all(
    runner: Runner, encoded: Sequence[EncodedText], batch_size: int = 32
) -> Iterator[tuple[int, Logits]]:
    """(index, logits) of every text, in order of length so that little is padded."""
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    for first in range(0, len(order), batch_size):
        indices = order[first : first + batch_size]
        yield from zip(indices, run_batch(runner, [encoded[index] for index in indices]), strict=True)


def pad(batch: Sequence[EncodedText]) -> tuple[Ids, Ids]:
    """Ids and mask [batch, longest], padded on the right with id 0."""
    longest = max(len(encoded) for encoded in batch)
    ids = np.zeros((len(batch), longest), np.int64)
    mask = np.zeros((len(batch), longest), np.int64)
    for row, encoded in enumerate(batch):
        ids[row, : len(encoded)] = encoded.ids
        mask[row, : len(encoded)] = 1
    return ids, mask
