"""The shipped model as a peer's worker computes it: tokenise, pad, run, name the best label.

Runs in a peer's environment: it needs onnxruntime, tokenizers, numpy and PyYAML only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml
from tokenizers import Tokenizer

from bench.peers.sizing import MAX_BATCH


class SupportText:
    """One session of one thread."""

    def __init__(self, folder: Path) -> None:
        spec = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
        task = next(task for task in spec["tasks"] if task["kind"] == "classification")
        self._output: list[str] = [task["output"]]
        self._labels: list[str] = task["labels"]
        self._tokenizer = Tokenizer.from_file(str(folder / spec["tokenizer"]["file"]))
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding(pad_id=spec["pad_token_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = folder / spec["variants"][spec["default_variant"]]["file"]
        self._session: Any = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Each text's best label and its probability, in batches of up to MAX_BATCH."""
        answers: list[tuple[str, float]] = []
        for first in range(0, len(texts), MAX_BATCH):
            encoded = self._tokenizer.encode_batch(list(texts[first : first + MAX_BATCH]))
            feed = {
                "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
                "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            }
            logits = self._session.run(self._output, feed)[0]
            shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
            shares /= shares.sum(axis=-1, keepdims=True)
            best = shares.argmax(axis=-1)
            answers += [(self._labels[label], float(shares[row, label])) for row, label in enumerate(best)]
        return answers
