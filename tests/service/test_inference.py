"""What is refused before compute is spent on it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, OperatingPoint
from minwatt.v1.inference_pb2 import (
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    PRIORITY_UNSPECIFIED,
    ClassifyOptions,
    ClassifyRequest,
    Priority,
)
from service.server import Parts, assemble
from service.settings import ServeSettings
from service.statuses import Refusal


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


async def test_low_priority_is_shed_while_the_operating_point_says_so(parts: Parts) -> None:
    def ask(priority: Priority.ValueType) -> Coroutine[None, None, object]:
        request = ClassifyRequest(texts=["hello"], options=ClassifyOptions(priority=priority))
        return parts.inference.answer(request, parts.inference.arrival("Classify", None, 0.01))

    parts.replica.operate_at(OperatingPoint(version=1, shed_low_priority=True))
    with pytest.raises(Refusal) as shed:
        await ask(PRIORITY_LOW)
    assert (shed.value.code, shed.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "shed")
    retry = RetryInfo()
    assert shed.value.status().details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() > 0
    for priority in (PRIORITY_UNSPECIFIED, PRIORITY_NORMAL):
        with pytest.raises(Refusal, match="are needed"):  # let in, and too late by itself
            await ask(priority)
    assert parts.counters.refusals == {"shed": 1, "deadline": 2}

    parts.replica.operate_at(OperatingPoint(version=2))
    with pytest.raises(Refusal, match="are needed"):
        await ask(PRIORITY_LOW)
