"""What the batcher adds to a request: from submitting it to the engine's start, and from the engine's end to
the answer in its handler's hands.

    python -m bench.serving.overhead --model DIR

In process, with the server's own parts around a null engine and no delay for company: what is left is the
batcher's own work and the two changes of thread. The engine's times are those that replies carry as Usage.
Beside it, in the same seconds: what the two changes of thread take by themselves on this machine, the least
that a batcher with threads for its engine adds. Reads seconds as JSON lines. Started by `run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from bench.serving.replica import null_encoder
from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service import event_loop
from service.assembly import Parts, assemble
from service.lifecycle.loading import Makers
from service.request import Floats, Request, TextJob
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


async def hops_us(seconds: float) -> list[float]:
    """From the loop to a thread that waits, and back, one after the other, with no work at all."""
    loop = asyncio.get_running_loop()
    given: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()

    def answer() -> None:
        while (future := given.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=answer)
    thread.start()
    taken_us: list[float] = []
    until_s = time.monotonic() + seconds
    while (began_s := time.monotonic()) < until_s:
        future = loop.create_future()
        given.put(future)
        await future
        taken_us.append(1e6 * (time.monotonic() - began_s))
    given.put(None)
    thread.join()
    return taken_us


def _no_labels(_logits: Floats) -> Classification:
    return Classification()


def measured(settings: ServeSettings, seconds: float) -> dict[str, float]:
    share_s = seconds / (len(IN_FLIGHT) + 1)
    answer = _quantiles("hop", event_loop.run(hops_us(share_s)))
    for in_flight in IN_FLIGHT:
        parts = assemble(settings, Makers(encoder=null_encoder(settings.model[0])))
        try:
            taken_us = event_loop.run(overheads_us(parts, in_flight, share_s))
        finally:
            parts.inference.close()
            parts.power.close()
        answer |= _quantiles(f"c{in_flight}", taken_us)
    return answer


def _quantiles(name: str, taken_us: Sequence[float]) -> dict[str, float]:
    if not taken_us:
        return {}
    p50_us, p99_us = np.quantile(taken_us, (0.5, 0.99))
    return {f"{name}_p50_us": float(p50_us), f"{name}_p99_us": float(p99_us)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.overhead", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    settings = ServeSettings.of_flags(model=parser.parse_args().model, max_delay="0s")
    for line in sys.stdin:
        print(json.dumps(measured(settings, json.loads(line)["seconds"])), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
