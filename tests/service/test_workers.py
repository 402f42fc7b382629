"""Several workers: no answer depends on company, on the worker, or on the shape that was computed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energy.apportion import Ledger
from energy.reading import Reading
from minwatt.v1.inference_pb2 import Classification
from minwatt.v1.model_dir import ModelDirectory
from service.answers import text_job
from service.cores import usable_cores
from service.dispatch import Place
from service.engine import Encoder, Engine
from service.queue import BatchLimits, WaitingText
from service.request import Request, TextJob, TextResult
from service.runtime.buckets import Buckets
from service.runtime.onnx import BoundEncoder, OnnxEncoder
from service.runtime.options import RuntimeOptions
from service.service_time import ServiceTime
from service.statuses import Refusal
from service.tokenize import TextTokenizer, TooLong
from service.validation import Options
from service.workers import Engines, parts
from tests.eventually import happens
from tests.service.gated import Gate, entered, request, running

CPU = RuntimeOptions("cpu", threads=1)
WORDS = ["alice", "José", "Smith", "acme", "bank", "New", "York", "東京", "where", "is", "(", "naïve"]
TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join), min_size=1, max_size=24
)


class Model:
    """The shipped parts around a graph, in each way that they can be put together."""

    def __init__(self, path: Path) -> None:
        directory = ModelDirectory.open(path)
        self.spec = directory.spec
        self.tokenizer = TextTokenizer(directory.tokenizer_file(), self.spec.max_tokens)
        self._graph = directory.variant_file("int8")
        self._heads = {task.output: len(task.labels) for task in self.spec.tasks}

    def exact(self) -> Encoder:
        return OnnxEncoder(self._graph, self._heads, CPU)

    def bucketed(self) -> Encoder:
        return BoundEncoder(self._graph, self._heads, CPU, Buckets(self.spec.max_tokens))

    def jobs(self, texts: Sequence[str]) -> list[TextJob]:
        """Both tasks in turn, so that they ride together."""
        encoded = self.tokenizer.encode(texts, truncate=True)
        assert not isinstance(encoded, TooLong)
        options = Options(2, 0.0, truncate=True)
        return [
            text_job(self.spec.tasks[index % 2], options, text, tokens)
            for index, (text, tokens) in enumerate(zip(texts, encoded, strict=True))
        ]

    def alone(self, texts: Sequence[str]) -> list[TextResult]:
        engine = Engine(self.exact(), self.spec.pad_token_id)
        return [engine.compute([job]).results[0] for job in self.jobs(texts)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return Model(tiny_model)


def _shared(model: Model, workers: int) -> Sequence[Encoder]:
    return [model.exact()] * workers


def _own(model: Model, workers: int) -> Sequence[Encoder]:
    return [model.bucketed() for _ in range(workers)]


def assert_same(result: TextResult | None, expected: TextResult) -> None:
    assert type(result) is type(expected)
    if isinstance(result, Classification) and isinstance(expected, Classification):
        assert [label.name for label in result.labels] == [label.name for label in expected.labels]
        scores = [[label.score for label in one.labels] for one in (result, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    else:
        assert str(result).split("score")[0] == str(expected).split("score")[0]


@pytest.mark.parametrize("encoders", [_shared, _own])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, workers=st.integers(1, 3), per_request=st.integers(1, 5))
def test_answers_do_not_depend_on_company(
    model: Model,
    encoders: Callable[[Model, int], Sequence[Encoder]],
    texts: list[str],
    workers: int,
    per_request: int,
) -> None:
    """Texts of many requests, in whatever batches on whatever workers, answer as each does alone."""
    jobs = model.jobs(texts)
    engines = Engines(
        [Engine(encoder, model.spec.pad_token_id) for encoder in encoders(model, workers)], apart=True
    )

    async def together() -> list[TextResult | None]:
        requests = [
            Request(jobs[first : first + per_request], 0.0, 0.0) for first in range(0, len(jobs), per_request)
        ]
        async with running(engines, BatchLimits(4, 256, 0.0)) as batcher:
            await asyncio.gather(*(batcher.answer(request) for request in requests))
        return [result for request in requests for result in request.results]

    for result, expected in zip(asyncio.run(together()), model.alone(texts), strict=True):
        assert_same(result, expected)


async def test_each_idle_worker_gets_a_batch_and_all_busy_is_busy() -> None:
    gate = Gate()
    engines = Engines([Engine(gate, 0)] * 2, apart=True)
    async with running(engines, BatchLimits(1, 512, 0.0)) as batcher:
        for tokens in (10, 100):
            batcher.dispatcher.service_time.observe(tokens, tokens * 1.0)
        first = asyncio.create_task(batcher.answer(request(10)))
        await entered(gate, 1)
        assert batcher.busy_s() == 0.0  # the other one is free
        second = asyncio.create_task(batcher.answer(request(20)))
        await entered(gate, 1)
        assert 0.0 < batcher.busy_s() <= 10.0  # the one that is free first
        third = asyncio.create_task(batcher.answer(request(5)))
        await happens(lambda: batcher.dispatcher.waiting_texts == 1)
        assert batcher.dispatcher.raised  # 35 s of work for two
        gate.may_answer.set()
        await asyncio.gather(first, second, third)


async def test_a_request_of_many_texts_is_computed_by_all_who_would_idle() -> None:
    gate = Gate()
    async with running(Engines([Engine(gate, 0)] * 2, apart=True), BatchLimits(16, 512, 0.0)) as batcher:
        batcher.dispatcher.service_time.observe(10, 0.010)
        batcher.dispatcher.service_time.observe(100, 0.100)
        one = request(*[10] * 8)
        answering = asyncio.create_task(batcher.answer(one))
        await entered(gate, 2)
        gate.may_answer.set()
        await answering
        assert one.cost.batch_texts == 4


async def test_an_answer_that_comes_too_late_is_refused_at_its_deadline() -> None:
    gate = Gate()
    async with running(Engines([Engine(gate, 0)], apart=True), BatchLimits(1, 512, 0.0)) as batcher:
        now_s = asyncio.get_running_loop().time()
        patient = asyncio.create_task(batcher.answer(request(1)))
        hurried = asyncio.create_task(batcher.answer(request(1, deadline_s=now_s + 0.05)))
        more = asyncio.create_task(batcher.answer(request(1, deadline_s=now_s + 0.02)))
        for late in (more, hurried):
            with pytest.raises(Refusal, match="deadline") as raised:
                await late
            assert raised.value.code.name == "DEADLINE_EXCEEDED"
        assert not patient.done()
        gate.may_answer.set()
        await patient


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=32),
    st.integers(1, 8),
    st.floats(0.0, 0.01),
    st.floats(1e-6, 1e-3),
)
def test_a_batch_in_parts_is_the_batch_and_is_done_no_later(
    tokens: list[int], idle: int, alpha_s: float, beta_s: float
) -> None:
    one = request(*tokens)
    batch = tuple(
        WaitingText(Place(one, index), size, 0.0, 0.0, math.inf) for index, size in enumerate(tokens)
    )
    service_time = ServiceTime(alpha_s, beta_s)
    split = parts(batch, idle, service_time)
    assert 1 <= len(split) <= idle
    assert all(split)
    assert sorted(text.payload.text_index for part in split for text in part) == list(range(len(tokens)))
    longest_s = max(service_time.batch_s(len(part) * max(text.tokens for text in part)) for part in split)
    assert longest_s <= service_time.batch_s(len(batch) * max(tokens)) + 1e-9


@given(
    st.lists(st.tuples(st.floats(0.001, 0.5), st.integers(1, 60)), min_size=1, max_size=30), st.integers(1, 8)
)
def test_joules_of_batches_computed_at_once_sum_to_the_meter(
    batches: list[tuple[float, int]], workers: int
) -> None:
    """A window holds more compute seconds than it is long; the parts are still the whole."""
    ledger = Ledger(idle_w=2.0, price_w=5.0)
    ledger.observe(Reading(0.0, 0.0, "nvml", 0.0))
    metered_j, at_s = 0.0, 0.0
    for index in range(0, len(batches), workers):
        at_once = batches[index : index + workers]
        charged = [ledger.charge(compute_s, [tokens, 1]) for compute_s, tokens in at_once]
        assert all(joules is not None and min(joules) >= 0 for joules in charged)
        at_s += max(compute_s for compute_s, _ in at_once)
        metered_j += 3.0
        ledger.observe(Reading(metered_j, 1.0, "nvml", at_s))
    totals = ledger.totals
    told = totals.start_up_j + totals.idle_j + totals.requests_j + totals.unpriced_j + totals.carry_j
    assert told == pytest.approx(totals.metered_j, abs=1e-8)
    assert totals.metered_j == pytest.approx(metered_j)


@pytest.mark.parametrize(
    ("told", "most"), [("max 100000", None), ("150000 100000", 1), ("50000 100000", 1), ("junk", None)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, told: str, most: int | None) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(told + "\n")
    unbounded = usable_cores(tmp_path / "absent")
    assert usable_cores(limit) == (unbounded if most is None else min(unbounded, most))
