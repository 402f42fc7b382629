"""The real server, with a thread's CPU clock around its encoder and its tokenizer; its encoder may be null.

    python -m bench.serving.replica --marks FILE [--null] [flag=value …]

The flags are those of `minwatt serve`. The null encoder answers zeros at once: all else, from socket to
metrics, is what serves. Started by `run`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.serving.marks import Marks, Part
from minwatt.v1.decode import EncodedText
from minwatt.v1.model_dir import ModelDirectory
from service.engine import Encoder
from service.runtime.onnx import OnnxEncoder, RuntimeOptions
from service.server import Makers, run
from service.settings import ServeSettings
from service.tokenize import TextTokenizer, TooLong

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class NullEncoder:
    """Zeros for all logits, in no time."""

    def __init__(
        self, per_token: frozenset[str], _graph: Path, heads: Mapping[str, int], _options: RuntimeOptions
    ) -> None:
        """`per_token`: the outputs that have logits for each token, not only for each text."""
        self._heads = heads
        self._per_token = per_token

    def run(self, input_ids: Ints, attention_mask: Ints) -> Mapping[str, Floats]:  # noqa: ARG002
        texts, tokens = input_ids.shape
        return {
            output: np.zeros(
                (texts, tokens, labels) if output in self._per_token else (texts, labels), np.float32
            )
            for output, labels in self._heads.items()
        }


class MarkedEncoder:
    """An encoder whose callers' CPU time is counted."""

    def __init__(self, marks: Marks, encoder: Encoder) -> None:
        self._marks = marks
        self._encoder = encoder

    def run(self, input_ids: Ints, attention_mask: Ints) -> Mapping[str, Floats]:
        with self._marks.spent(Part.ENGINE):
            return self._encoder.run(input_ids, attention_mask)


class MarkedTokenizer(TextTokenizer):
    """A tokenizer whose callers' CPU time is counted."""

    def __init__(self, marks: Marks, file: Path, max_tokens: int) -> None:
        super().__init__(file, max_tokens)
        self._marks = marks

    def encode(self, texts: Sequence[str], truncate: bool) -> list[EncodedText] | TooLong:
        with self._marks.spent(Part.TOKENIZER):
            return super().encode(texts, truncate)


def null_encoder(model: Path) -> partial[NullEncoder]:
    """Makes the null encoder of a model."""
    tasks = ModelDirectory.open(model).spec.tasks
    return partial(NullEncoder, frozenset(task.output for task in tasks if task.kind == "ner"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.replica", description=__doc__)
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--null", action="store_true")
    parser.add_argument("flags", nargs="*", metavar="flag=value")
    options = parser.parse_args()
    flags = dict(flag.split("=", 1) for flag in options.flags)
    settings = ServeSettings.of_flags(**{name.replace("-", "_"): value for name, value in flags.items()})
    marks = Marks(options.marks)
    encoder = null_encoder(settings.model) if options.null else OnnxEncoder

    def marked_encoder(graph: Path, heads: Mapping[str, int], runtime: RuntimeOptions) -> Encoder:
        return MarkedEncoder(marks, encoder(graph, heads, runtime))

    makers = Makers(encoder=marked_encoder, tokenizer=partial(MarkedTokenizer, marks))
    asyncio.run(run(settings, on_ready=lambda line: print(line, flush=True), makers=makers))  # noqa: T201


if __name__ == "__main__":
    main()
