"""What the batcher adds to a request: from submitting it to the engine's start, and from the engine's end to
the answer in its handler's hands.

    python -m bench.serving.overhead --model DIR

In process, with the server's own parts around a null engine and no delay for company: what is left is the
batcher's own work and the two changes of thread. The engine's times are those that replies carry as Usage.
Reads seconds as JSON lines. Started by `run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from bench.serving.replica import null_encoder
from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service import event_loop
from service.lifecycle.loading import Makers
from service.request import Floats, Request, TextJob
from service.server import Parts, assemble
from service.settings import ServeSettings

TOKENS = 15
IN_FLIGHT = (1, 8)


async def overheads_us(parts: Parts, in_flight: int, seconds: float) -> list[float]:
    """Of each request in `seconds`, with so many in flight at a time."""
    taken_us: list[float] = []
    tokens = EncodedText([1] * TOKENS, [None] * TOKENS, [(0, 0)] * TOKENS)
    job = TextJob(tokens, parts.lifecycle.models.default.directory.spec.tasks[0].output, _no_labels)
    until_s = time.monotonic() + seconds

    async def caller() -> None:
        while (began_s := time.monotonic()) < until_s:
            request = Request([job], began_s, began_s + 1.0)
            await parts.lifecycle.models.default.batcher.answer(request)
            taken_us.append(1e6 * (time.monotonic() - began_s - request.cost.compute_s))

    batcher = asyncio.create_task(parts.lifecycle.run())
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    batcher.cancel()
    with suppress(asyncio.CancelledError):
        await batcher
    return taken_us


def _no_labels(_logits: Floats) -> Classification:
    return Classification()


def measured(settings: ServeSettings, seconds: float) -> dict[str, float]:
    answer: dict[str, float] = {}
    for in_flight in IN_FLIGHT:
        parts = assemble(settings, Makers(encoder=null_encoder(settings.model[0])))
        try:
            taken_us = event_loop.run(overheads_us(parts, in_flight, seconds / len(IN_FLIGHT)))
        finally:
            parts.inference.close()
            parts.power.close()
        if taken_us:
            p50_us, p99_us = np.quantile(taken_us, (0.5, 0.99))
            answer |= {f"c{in_flight}_p50_us": float(p50_us), f"c{in_flight}_p99_us": float(p99_us)}
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.overhead", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    settings = ServeSettings.of_flags(model=parser.parse_args().model, max_delay="0s")
    for line in sys.stdin:
        print(json.dumps(measured(settings, json.loads(line)["seconds"])), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
