"""The loop around the dispatcher: every awaited request returns or raises, whatever engine and clients do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification
from service.batcher import Batcher
from service.clocks import CardClock
from service.dispatch import Dispatcher
from service.engine import Engine
from service.queue import BatchLimits
from service.request import ComputedBatch, Request, TextJob
from service.service_time import ServiceTimeEstimate
from service.statuses import Refusal
from service.workers import Engines, Workers

SLO_S = 0.05
POISON = 13  # a token id on which the encoder breaks


class Encoder:
    """Answers zeros, once it may; breaks on POISON."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.started = threading.Event()
        self.texts = 0

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        return texts, tokens

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        self.started.set()
        assert self.may_answer.wait(10)
        self.texts += len(input_ids)
        if POISON in input_ids:
            raise RuntimeError("out of memory")
        return {"logits": np.zeros((len(input_ids), 2), np.float32)}


class Unmetered:
    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> None:
        return None


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
async def batcher(encoder: Encoder) -> AsyncIterator[Batcher]:
    dispatcher = Dispatcher(BatchLimits(2, 512, 0.0), ServiceTimeEstimate(), SLO_S)
    workers = Workers(1)
    batcher = Batcher(dispatcher, one_worker(encoder), workers, Unmetered(), CardClock(None))
    workers.start()
    running = asyncio.create_task(batcher.run())
    yield batcher
    encoder.may_answer.set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    workers.stop()


def one_worker(encoder: Encoder) -> Engines:
    return Engines([Engine(encoder, pad_token_id=0)], apart=True)


def request(*ids: int) -> Request:
    jobs = [
        TextJob(EncodedText([id_], [0], [(0, 1)]), "logits", lambda _: Classification(truncated=True))
        for id_ in ids
    ]
    return Request(jobs, arrived_s=0.0, due_s=0.0)


async def test_results_are_in_order_and_unknown_joules_stay_unknown(
    batcher: Batcher, encoder: Encoder
) -> None:
    encoder.may_answer.set()
    one = request(1, 2, 3, 4, 5)
    await batcher.answer(one)
    assert one.results == [Classification(truncated=True)] * 5
    assert (one.cost.batch_texts, one.cost.tokens, one.cost.energy_j) == (2, 5, None)


async def test_a_broken_batch_ends_its_requests_alone(batcher: Batcher, encoder: Encoder) -> None:
    encoder.may_answer.set()
    with pytest.raises(Refusal, match="the model failed") as raised:
        await batcher.answer(request(POISON))
    assert raised.value.code.name == "INTERNAL"
    await batcher.answer(request(1))


async def test_a_request_whose_client_left_is_not_computed(batcher: Batcher, encoder: Encoder) -> None:
    batcher.dispatcher.service_time.observe(1, 10.0)  # nothing is given ahead yet
    first = asyncio.create_task(batcher.answer(request(1)))
    assert await asyncio.to_thread(encoder.started.wait, 10)
    second = asyncio.create_task(batcher.answer(request(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    encoder.may_answer.set()
    await first
    await batcher.answer(request(3))
    assert encoder.texts == 2


async def test_a_client_that_leaves_during_its_batch_harms_nobody(batcher: Batcher, encoder: Encoder) -> None:
    first = asyncio.create_task(batcher.answer(request(1)))
    assert await asyncio.to_thread(encoder.started.wait, 10)
    first.cancel()
    await asyncio.wait({first})
    encoder.may_answer.set()
    await batcher.answer(request(2))


async def test_stopping_refuses_what_is_open(encoder: Encoder) -> None:
    batcher = Batcher(
        Dispatcher(BatchLimits(2, 512, 1.0), ServiceTimeEstimate(), SLO_S),
        one_worker(encoder),
        Workers(1),
        Unmetered(),
        CardClock(None),
    )
    running = asyncio.create_task(batcher.run())
    one = request(1)
    one.due_s = 1e9  # patient: it would wait for company
    waiting = asyncio.create_task(batcher.answer(one))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(Refusal) as raised:
        await waiting
    assert raised.value.code.name == "UNAVAILABLE"
