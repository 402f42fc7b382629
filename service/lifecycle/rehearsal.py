"""A loaded model answers some texts before anybody else's: what would fail on a client's text fails here.

A tokenizer of another model, labels that the graph has no columns for, weights that make no numbers: all of
that loads well and computes well on the warm-up's shapes. Called by `loading`, on its thread.
"""

from __future__ import annotations

import numpy as np

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import Classification
from minwatt.v1.model_dir import ModelSpec, Task
from service.answers import text_job
from service.engine import Engine
from service.request import Floats, TextJob, TextResult
from service.tokenize import TextTokenizer, TooLong
from service.validation import Options

TEXTS = ("Where is my card?", "José Smith lives in 東京. 😀", "a " * 40)


def rehearse(where: str, spec: ModelSpec, tokenizer: TextTokenizer, engine: Engine) -> None:
    """Raises UsageError; `where` begins its line."""
    try:
        encoded = tokenizer.encode(TEXTS, truncate=True)
    except Exception as error:  # the library raises bare Exception
        why = " ".join(str(error).split())[:300]
        raise UsageError(f"{where}: the tokenizer fails on a text of the rehearsal: {why}") from error
    assert not isinstance(encoded, TooLong)  # noqa: S101 - it may truncate
    for task in spec.tasks:
        jobs = [_checked(where, task, text, tokens) for text, tokens in zip(TEXTS, encoded, strict=True)]
        # The tokenizer's last token: a smaller vocabulary in the graph fails on it.
        last = EncodedText([tokenizer.highest_id], [None], [(0, 0)])
        jobs.append(TextJob(last, task.output, lambda _: Classification()))
        try:
            engine.compute(jobs)
        except UsageError:
            raise
        except Exception as error:  # whatever the runtime raises: this model can't be served
            why = " ".join(str(error).split())[:300]
            raise UsageError(f"{where}: the model fails on a text of the rehearsal: {why}") from error


def _checked(where: str, task: Task, text: str, tokens: EncodedText) -> TextJob:
    job = text_job(task, Options(len(task.labels), 0.0, truncate=True), text, tokens)

    def read(row: Floats) -> TextResult:
        if row.shape[-1] != len(task.labels):
            raise UsageError(
                f"{where}: output {task.output!r} has {row.shape[-1]} columns, model.yaml has "
                f"{len(task.labels)} labels for it"
            )
        own = row[: len(tokens)] if task.kind == "ner" else row  # without padding
        if not np.isfinite(own).all():
            raise UsageError(f"{where}: output {task.output!r} is not finite for a text: damaged weights")
        return job.read(row)

    return TextJob(tokens, job.output, read)
