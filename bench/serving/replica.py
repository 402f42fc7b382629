"""The real server, with a thread's CPU clock around its encoder and its tokenizer; its encoder may be null.

    python -m bench.serving.replica --marks FILE [--null] [flag=value …]

The flags are those of `minwatt serve`. The null encoder answers zeros at once: all else, from socket to
metrics, is what serves. Started by `run`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.serving.marks import Marks, Part
from minwatt.v1.decode import EncodedText
from minwatt.v1.model_dir import ModelDirectory
from service import event_loop
from service.fronts.supervisor import supervise
from service.lifecycle.loading import Makers
from service.runtime.onnx import OnnxEncoder
from service.server import run
from service.settings import ServeSettings
from service.tokenize import TextTokenizer, TooLong

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def null_encoder(model: Path) -> type[OnnxEncoder]:
    """An encoder of this model that answers zeros. Raises UsageError when the model can't be read."""
    tasks = ModelDirectory.open(model).spec.tasks
    labels_of_text = {task.output: len(task.labels) for task in tasks if task.kind == "classification"}
    labels_of_token = {task.output: len(task.labels) for task in tasks if task.kind == "ner"}

    class NullEncoder(OnnxEncoder):
        """The graph is loaded, and never run."""

        def run(self, input_ids: Ints, attention_mask: Ints) -> Mapping[str, Floats]:  # noqa: ARG002
            texts, tokens = input_ids.shape
            return {
                **{name: np.zeros((texts, width), np.float32) for name, width in labels_of_text.items()},
                **{
                    name: np.zeros((texts, tokens, width), np.float32)
                    for name, width in labels_of_token.items()
                },
            }

    return NullEncoder


def marked_encoder(encoder: type[OnnxEncoder], marks: Marks) -> type[OnnxEncoder]:
    """The same, and the CPU time of who calls it is counted."""

    class MarkedEncoder(encoder):  # type: ignore[misc, valid-type]
        def run(self, input_ids: Ints, attention_mask: Ints) -> Mapping[str, Floats]:
            began_s = time.thread_time()
            logits: Mapping[str, Floats] = super().run(input_ids, attention_mask)
            marks.add(Part.ENGINE, began_s)
            return logits

    return MarkedEncoder


def marked_tokenizer(marks: Marks) -> type[TextTokenizer]:
    """The server's, and the CPU time of who calls it is counted."""

    class MarkedTokenizer(TextTokenizer):
        def encode(
            self, texts: Sequence[str], truncate: bool, words: bool = True
        ) -> list[EncodedText] | TooLong:
            began_s = time.thread_time()
            encoded = super().encode(texts, truncate, words)
            marks.add(Part.TOKENIZER, began_s)
            return encoded

    return MarkedTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.replica", description=__doc__)
    parser.add_argument("--marks", type=Path, required=True)
    parser.add_argument("--null", action="store_true")
    parser.add_argument("flags", nargs="*", metavar="flag=value")
    options = parser.parse_args()
    flags = dict(flag.split("=", 1) for flag in options.flags)
    settings = ServeSettings.of_flags(**{name.replace("-", "_"): value for name, value in flags.items()})
    marks = Marks(options.marks)
    encoder = null_encoder(settings.model[0]) if options.null else OnnxEncoder
    makers = Makers(marked_encoder(encoder, marks), marked_tokenizer(marks))
    if settings.front_ends:
        sys.exit(supervise(settings, _print, makers))
    event_loop.run(run(settings, _print, makers))


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
