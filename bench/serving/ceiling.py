"""The ceiling: ONNX Runtime and the tokenizer in one process, with no server around them.

    python -m bench.serving.ceiling --model DIR --texts FILE

Reads a mode and seconds as JSON lines, answers how many texts were computed. Texts of batches come sorted by
length within WINDOW texts, as many as the greatest concurrency holds: padding is then what a perfect batcher
would leave. Only one head is fetched and no answer is read from it. Started by `run`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from bench.serving.load import FEW_MESSAGES
from bench.serving.modes import MODES, Mode
from minwatt.v1.model_dir import ModelDirectory
from service.collate import collate
from service.tokenize import TextTokenizer, TooLong

WINDOW = 64  # texts

Step = Callable[[Sequence[str]], None]


class Ceiling:
    """Sessions resident, one of two threads and two of one thread."""

    def __init__(self, model: Path, texts: list[str]) -> None:
        directory = ModelDirectory.open(model)
        spec = directory.spec
        graph = str(directory.variant_file(spec.default_variant))
        self._pad = spec.pad_token_id
        self._output = [spec.tasks[0].output]
        self._tokenizers = [TextTokenizer(directory.tokenizer_file(), spec.max_tokens) for _ in range(2)]
        self._one_thread = [_session(graph, threads=1) for _ in range(2)]
        self._two_threads = _session(graph, threads=2)
        self._texts = texts

    def rate(self, mode: Mode, seconds: float) -> dict[str, Any]:
        """Texts a second in this mode."""
        sessions = [
            self._two_threads if mode.threads == 2 else self._one_thread[index % mode.sessions]
            for index in range(mode.users)
        ]
        counts = [0] * mode.users
        start = threading.Barrier(mode.users + 1)
        until_s = [0.0]

        def user(index: int) -> None:
            batches = self._batches(mode.batch, index * len(self._texts) // mode.users)
            start.wait()
            while time.perf_counter() < until_s[0]:
                batch = next(batches)
                self._compute(sessions[index], self._tokenizers[index], batch)
                counts[index] += len(batch)

        threads = [threading.Thread(target=user, args=(index,)) for index in range(mode.users)]
        for thread in threads:
            thread.start()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        until_s[0] = began_s + seconds
        start.wait()
        for thread in threads:
            thread.join()
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        return {"texts_per_s": sum(counts) / took_s, "cpu_ms_per_text": 1e3 * cpu_s / sum(counts)}

    def single(self, seconds: float) -> dict[str, Any]:
        """Milliseconds of the engine alone for each of the first texts: one text a batch, one thread."""
        inputs = [self._inputs(self._tokenizers[0], [text]) for text in self._texts[:FEW_MESSAGES]]
        taken_ms: dict[int, list[float]] = {}
        until_s = time.perf_counter() + seconds
        for number, feed in cycle(enumerate(inputs)):
            began_s = time.perf_counter()
            if began_s > until_s:
                break
            self._one_thread[0].run(self._output, feed)
            taken_ms.setdefault(number, []).append(1e3 * (time.perf_counter() - began_s))
        return {"engine_ms": {number: median(times) for number, times in taken_ms.items()}}

    def _batches(self, size: int, first: int) -> Iterator[list[str]]:
        texts = self._texts[first:] + self._texts[:first]
        windows = [texts[i : i + WINDOW] for i in range(0, len(texts), WINDOW)]
        if size > 1:
            windows = [sorted(window, key=len) for window in windows]
        return cycle([window[i : i + size] for window in windows for i in range(0, len(window), size)])

    def _inputs(self, tokenizer: TextTokenizer, texts: Sequence[str]) -> dict[str, Any]:
        encoded = tokenizer.encode(texts, truncate=False, words=False)
        if isinstance(encoded, TooLong):
            raise ValueError(f"text {encoded.index} {encoded.length}")
        ids, mask = collate(encoded, self._pad)
        return {"input_ids": ids, "attention_mask": mask}

    def _compute(self, session: Any, tokenizer: TextTokenizer, texts: Sequence[str]) -> None:
        logits = session.run(self._output, self._inputs(tokenizer, texts))[0]
        np.argmax(logits, axis=-1)


def _session(graph: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.ceiling", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    ceiling = Ceiling(options.model, options.texts.read_text(encoding="utf-8").splitlines())
    modes = {mode.name: mode for mode in MODES}
    for line in sys.stdin:
        asked = json.loads(line)
        mode = modes.get(asked["mode"])
        answer = ceiling.rate(mode, asked["seconds"]) if mode else ceiling.single(asked["seconds"])
        print(json.dumps(answer), flush=True)  # noqa: T201 - the process's answer


if __name__ == "__main__":
    main()
