"""Several models on the same workers: never more batches at once, turns while all have something due."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from energy.apportion import Ledger
from energy.reading import Reading
from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service.batcher import Batcher
from service.clocks import CardClock
from service.dispatch import Dispatcher
from service.engine import Engine
from service.queue import BatchLimits
from service.request import ComputedBatch, Request, TextJob
from service.service_time import ServiceTimeEstimate
from service.workers import Engines, Workers
from tests.eventually import WAIT_S, happens

WORKERS = 2


@dataclass
class Device:
    """Counts the batches under way, and who computed in which order."""

    at_once: int = 0
    most_at_once: int = 0
    order: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_compute: threading.Event = field(default_factory=threading.Event)

    async def has_begun(self, batches: int) -> None:
        """So many more."""
        for _ in range(batches):
            assert await asyncio.to_thread(self.begun.acquire, timeout=WAIT_S)


class Encoder:
    def __init__(self, name: str, device: Device) -> None:
        self._name = name
        self._device = device

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        return texts, tokens

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        device = self._device
        with device.lock:
            device.at_once += 1
            device.most_at_once = max(device.most_at_once, device.at_once)
            device.order.append(self._name)
        device.begun.release()
        assert device.may_compute.wait(WAIT_S)
        with device.lock:
            device.at_once -= 1
        return {"logits": np.zeros((len(input_ids), 2), np.float32)}


class Books:
    """The ledger of one meter for all models."""

    def __init__(self) -> None:
        self.ledger = Ledger(idle_w=1.0, price_w=10.0)
        self.ledger.observe(Reading(0.0, 0.0, "test", 0.0))
        self.charged_j = 0.0

    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> Sequence[float] | None:
        joules = self.ledger.charge(computed.compute_s, tokens)
        assert joules is not None
        self.charged_j += sum(joules)
        return joules


@dataclass
class Models:
    device: Device
    workers: Workers
    books: Books
    batchers: dict[str, Batcher]

    async def answer(self, name: str, texts: int) -> Request:
        jobs = [
            TextJob(EncodedText([1], [0], [(0, 1)]), "logits", lambda _: Classification())
            for _ in range(texts)
        ]
        one = Request(jobs, arrived_s=0.0, due_s=0.0)
        await self.batchers[name].answer(one)
        return one


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    device, workers, books = Device(), Workers(WORKERS), Books()
    batchers = {}
    for name in "ab":
        encoder = Encoder(name, device)
        engines = Engines([Engine(encoder, 0) for _ in range(WORKERS)], apart=True)
        dispatcher = Dispatcher(BatchLimits(1, 512, 0.0), ServiceTimeEstimate(), 0.05)
        batchers[name] = Batcher(dispatcher, engines, workers, books, CardClock(None))
    workers.start()
    running = [asyncio.create_task(batcher.run()) for batcher in batchers.values()]
    await asyncio.sleep(0)
    yield Models(device, workers, books, batchers)
    device.may_compute.set()
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    workers.stop()


async def test_all_models_together_compute_as_many_batches_as_there_are_workers(models: Models) -> None:
    models.device.may_compute.set()
    await asyncio.gather(*(models.answer(name, 1 + count % 3) for count in range(20) for name in "ab"))
    assert models.device.most_at_once <= WORKERS
    assert models.workers.idle == WORKERS


async def test_models_take_turns_whoever_has_the_longer_queue(models: Models) -> None:
    """b's 3 texts wait behind at most one batch of a's 40 each, and what had begun before."""
    many = asyncio.create_task(models.answer("a", 40))
    await models.device.has_begun(WORKERS)
    few = asyncio.create_task(models.answer("b", 3))
    await asyncio.sleep(0)
    models.device.may_compute.set()
    await asyncio.gather(many, few)
    last_of_b = max(index for index, name in enumerate(models.device.order) if name == "b")
    assert last_of_b <= WORKERS + 2 * 3


async def test_a_model_alone_has_all_workers_and_half_of_them_while_another_waits(models: Models) -> None:
    a, b = models.batchers["a"], models.batchers["b"]
    assert models.workers.share(a) == WORKERS
    asked = asyncio.create_task(models.answer("b", 10))
    await models.device.has_begun(WORKERS)
    assert b.waits
    assert models.workers.share(a) == WORKERS / 2
    assert models.workers.share(b) == WORKERS
    models.device.may_compute.set()
    await asked


async def test_joules_of_all_models_are_those_of_the_one_meter(models: Models) -> None:
    models.device.may_compute.set()
    requests = await asyncio.gather(*(models.answer(name, 4) for _ in range(10) for name in "ab"))
    models.books.ledger.observe(Reading(50.0, 5.0, "test", 10.0))
    totals = models.books.ledger.totals
    parts = totals.start_up_j + totals.idle_j + totals.requests_j + totals.unpriced_j + totals.carry_j
    assert parts == pytest.approx(totals.metered_j, abs=1e-9)
    told = sum(request.cost.energy_j or 0.0 for request in requests)
    assert told == pytest.approx(totals.requests_j, abs=1e-6)


async def test_a_model_that_leaves_gives_its_workers_back(models: Models) -> None:
    workers = Workers(1)
    workers.start()
    dispatcher = Dispatcher(BatchLimits(1, 512, 0.0), ServiceTimeEstimate(), 0.05)
    leaving = Batcher(
        dispatcher,
        Engines([Engine(Encoder("leaving", models.device), 0)], apart=True),
        workers,
        models.books,
        CardClock(None),
    )
    models.batchers["leaving"] = leaving
    running = asyncio.create_task(leaving.run())
    asked = asyncio.create_task(models.answer("leaving", 1))
    await models.device.has_begun(1)
    assert workers.idle == 0
    running.cancel()
    await asyncio.wait({running, asked})
    assert "UNAVAILABLE" in str(getattr(asked.exception(), "code", ""))
    models.device.may_compute.set()
    await happens(lambda: workers.idle == 1)
    workers.stop()
