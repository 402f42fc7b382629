"""Batch shapes computed before readiness, so that the first request meets warm memory and a known service
time.

Called by `server`, on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service.collate import Shape
from service.engine import Engine
from service.queue import BatchLimits
from service.request import Floats, TextJob
from service.service_time import ServiceTimeEstimate

TEXT_TOKENS = (8, 32, 128)


def shapes(limits: BatchLimits, max_tokens: int) -> list[Shape]:
    """(texts, tokens) to compute, largest first: powers of four and the bound, over the usual lengths.

    And one text of the greatest length, as a graph may take less than its model.yaml promises.
    """
    lengths = sorted({min(length, max_tokens) for length in TEXT_TOKENS})
    sizes = {limits.max_texts, *(4**power for power in range(7) if 4**power < limits.max_texts)}
    fitting = {
        (n, length) for n in sizes for length in lengths if n * length <= limits.max_padded_tokens or n == 1
    }
    return sorted(fitting | {(1, max_tokens)}, key=lambda shape: (shape[0] * shape[1], shape), reverse=True)


def warm_up(
    engines: Sequence[Engine], outputs: list[str], to_compute: Sequence[Shape]
) -> ServiceTimeEstimate:
    """Computes each shape; returns what was learned. The first batch, which grows the memory, runs twice.

    All engines compute each shape at once: that is how slow they are while all are busy.
    """
    estimate = ServiceTimeEstimate()
    with ThreadPoolExecutor(len(engines), thread_name_prefix="warm-up") as pool:

        def compute(texts: int, tokens: int) -> list[tuple[int, float]]:
            return list(pool.map(lambda engine: _compute(engine, outputs, texts, tokens), engines))

        compute(*to_compute[0])
        for texts, tokens in to_compute:
            for padded_tokens, compute_s in compute(texts, tokens):
                estimate.observe(padded_tokens, compute_s)
    return estimate


def _compute(engine: Engine, outputs: list[str], texts: int, tokens: int) -> tuple[int, float]:
    encoded = EncodedText([1] * tokens, [None] * tokens, [(0, 0)] * tokens)
    jobs = [TextJob(encoded, outputs[index % len(outputs)], _ignore) for index in range(texts)]
    computed = engine.compute(jobs)
    return computed.padded_tokens, computed.compute_s


def _ignore(_logits: Floats) -> Classification:
    return Classification()
