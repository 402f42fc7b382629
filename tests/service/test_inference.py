"""What is refused before compute is spent on it."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from minwatt.v1.decode import EncodedText
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, OperatingPoint
from minwatt.v1.inference_pb2 import (
    PRIORITY_BATCH,
    PRIORITY_INTERACTIVE,
    PRIORITY_UNSPECIFIED,
    Classification,
    ClassifyOptions,
    ClassifyRequest,
    Priority,
)
from service.assembly import Parts, assemble
from service.quotas import Quota
from service.replica import Sources
from service.report import report
from service.request import Request, TextJob
from service.settings import ServeSettings
from service.statuses import Refusal
from service.tenants import Directory, Tenant


@pytest.fixture
def parts(tiny_model: Path) -> Iterator[Parts]:
    """A ready replica whose engine needs 10 ms a token; nothing feeds it."""
    parts = assemble(ServeSettings.of_flags(model=tiny_model, meter="modelled"))
    for tokens in (10, 100):
        parts.replica.dispatcher.service_time.observe(tokens, tokens * 0.01)
    parts.replica.state = REPLICA_STATE_READY
    yield parts
    parts.inference.close()
    parts.power.close()


async def test_a_request_needs_time_for_all_its_texts(parts: Parts) -> None:
    request = ClassifyRequest(texts=["hello"] * 8)  # 24 tokens with [CLS] and [SEP]: 240 ms, one text 30 ms
    with pytest.raises(Refusal, match=r"240\.0 ms are needed: nothing was computed") as raised:
        await parts.inference.answer(request, parts.inference.arrival("Classify", None, 0.2))
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert parts.counters.refusals == {"deadline": 1}
    assert (parts.counters.arrivals, parts.counters.in_flight) == (1, 0)


async def test_the_class_batch_is_shed_while_the_operating_point_says_so(parts: Parts) -> None:
    def ask(priority: Priority.ValueType) -> Coroutine[None, None, object]:
        request = ClassifyRequest(texts=["hello"], options=ClassifyOptions(priority=priority))
        return parts.inference.answer(request, parts.inference.arrival("Classify", None, 0.01))

    parts.replica.operate_at(OperatingPoint(version=1, shed_low_priority=True))
    with pytest.raises(Refusal) as shed:
        await ask(PRIORITY_BATCH)
    assert (shed.value.code, shed.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "shed")
    retry = RetryInfo()
    assert shed.value.status().details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() > 0
    for priority in (PRIORITY_UNSPECIFIED, PRIORITY_INTERACTIVE):
        with pytest.raises(Refusal, match=r"are needed|passed"):  # let in, and too late by itself
            await ask(priority)
    assert parts.counters.refusals == {"shed": 1, "deadline": 2}

    parts.replica.operate_at(OperatingPoint(version=2))
    with pytest.raises(Refusal, match=r"are needed|passed"):
        await ask(PRIORITY_BATCH)


async def test_what_is_beyond_a_quota_is_no_demand_on_the_fleet(parts: Parts) -> None:
    """It is refused before anything is looked at, counted to its tenant, and left out of the report."""
    quota = Quota(requests_per_s=0.001, burst_s=0.01)
    parts.access.replace(Directory(Tenant("anonymous", frozenset({"infer"}), 1.0, quota)))
    bad = ClassifyRequest(texts=[" "])
    for reason in ("invalid", "quota", "quota"):
        with pytest.raises(Refusal) as raised:
            await parts.inference.answer(bad, parts.inference.arrival("Classify", None))
        assert raised.value.reason == reason
    parts.access.replace(Directory(None))
    with pytest.raises(Refusal) as raised:
        await parts.inference.answer(bad, parts.inference.arrival("Classify", None))
    assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert parts.counters.refusals == {"invalid": 1, "quota": 2, "identity": 1}
    assert (parts.counters.arrivals, parts.counters.in_flight) == (4, 0)

    sources = Sources(parts.replica, parts.counters, parts.power, parts.card_clock)
    said = report(sources, sequence=1, interval_s=1.0)
    assert (said.arrivals_total, dict(said.refusals_total)) == (1, {"invalid": 1})


async def test_who_would_wait_too_long_is_refused_before_its_texts_are_looked_at(parts: Parts) -> None:
    """The queue holds 20 texts of 100 ms; whoever brings a text more would be answered after the SLO."""
    dispatcher = parts.replica.dispatcher
    encoded = EncodedText([1] * 10, [None] * 10, [(0, 0)] * 10)
    waiting = TextJob(encoded, "intent_logits", lambda _: Classification())
    dispatcher.submit(Request([waiting] * 20, time.monotonic(), time.monotonic() + 0.04))
    unread = ClassifyRequest(texts=[" "])
    for priority, reason in ((PRIORITY_INTERACTIVE, "slo"), (PRIORITY_BATCH, "shed")):
        unread.options.priority = priority
        with pytest.raises(Refusal) as refused:
            await parts.inference.answer(unread, parts.inference.arrival("Classify", None))
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        retry = RetryInfo()
        assert refused.value.status().details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() > 0
    with pytest.raises(Refusal) as refused:  # and with a deadline that can't be met
        await parts.inference.answer(unread, parts.inference.arrival("Classify", None, 0.5))
    assert refused.value.reason == "deadline"


async def test_each_way_out_is_captured_with_its_outcome(tiny_model: Path, tmp_path: Path) -> None:
    settings = ServeSettings.of_flags(model=tiny_model, meter="modelled", capture=tmp_path / "captured")
    parts = assemble(settings)
    parts.replica.state = REPLICA_STATE_READY
    for tokens in (10, 100):
        parts.replica.dispatcher.service_time.observe(tokens, tokens * 0.01)
    assert parts.capture is not None
    ask = ClassifyRequest(texts=["hello"] * 8, options=ClassifyOptions(priority=PRIORITY_BATCH))
    invalid = ClassifyRequest(texts=[" "])
    for request, deadline_s in ((ask, 0.2), (invalid, 3.0), (ClassifyRequest(), 3.0)):
        with pytest.raises(Refusal):
            await parts.inference.answer(request, parts.inference.arrival("Classify", None, deadline_s))
    late, bad = parts.capture.sampling.take(10)  # what has no texts can't be asked again
    assert (late.outcome, late.texts, late.batch, late.tokens) == ("DEADLINE_EXCEEDED", 8, True, None)
    assert (late.deadline_s, late.size_bytes, late.words) == (pytest.approx(0.2), ask.ByteSize(), None)
    assert (bad.outcome, bad.tenant, bad.task) == ("INVALID_ARGUMENT", "anonymous", "classify")
    parts.inference.close()
    parts.power.close()
