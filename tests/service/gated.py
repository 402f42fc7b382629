"""A batcher with workers whose engine computes once it may, and requests for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service.batcher import Batcher
from service.clocks import CardClock
from service.dispatch import Dispatcher
from service.queue import BatchLimits
from service.request import ComputedBatch, Request, TextJob
from service.service_time import ServiceTimeEstimate
from service.workers import Engines, Workers
from tests.eventually import WAIT_S


class Unmetered:
    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> None:
        return None


@contextlib.asynccontextmanager
async def running(engines: Engines, limits: BatchLimits):  # type: ignore[no-untyped-def]
    workers = Workers(len(engines.all))
    workers.start()
    try:
        async with sharing(workers, engines, limits) as batcher:
            yield batcher
    finally:
        workers.stop()


@contextlib.asynccontextmanager
async def sharing(workers: Workers, engines: Engines, limits: BatchLimits):  # type: ignore[no-untyped-def]
    """One of several models on workers that have been started."""
    dispatcher = Dispatcher(limits, ServiceTimeEstimate(), 0.05)
    batcher = Batcher(dispatcher, engines, workers, Unmetered(), CardClock(None))
    task = asyncio.create_task(batcher.run())
    await asyncio.sleep(0)
    try:
        yield batcher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Gate:
    """Computes once it may; says how many threads are in it."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.inside = threading.Semaphore(0)

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        return texts, tokens

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        self.inside.release()
        assert self.may_answer.wait(WAIT_S)
        return {"logits": np.zeros((len(input_ids), 2), np.float32)}


def request(*tokens: int, deadline_s: float = math.inf) -> Request:
    jobs = [
        TextJob(EncodedText([1] * size, [0] * size, [(0, 1)] * size), "logits", lambda _: Classification())
        for size in tokens
    ]
    return Request(jobs, arrived_s=0.0, due_s=0.0, deadline_s=deadline_s)


async def entered(gate: Gate, threads: int) -> None:
    for _ in range(threads):
        assert await asyncio.to_thread(gate.inside.acquire, timeout=WAIT_S)
