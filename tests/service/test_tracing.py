"""The spans of requests and batches, whose trace they belong to, and who decides that there are any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from minwatt.v1.inference_pb2 import ClassifyRequest
from service.assembly import Parts
from service.replica import Identity
from service.statuses import Refusal
from service.tracing import OtelTracer, _RequestSpan, _TellsOnce
from tests.service.cache.test_known import replica

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDENTITY = Identity("replica-1", "tiny-text", "1", "int8", "host", 1)


@dataclass
class Metadata:
    """A call that carries nothing else."""

    items: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    peer_identity: str | None = None

    def metadata(self, key: str) -> str | None:
        return self.items.get(key)


SAMPLED = Metadata({"traceparent": f"00-{TRACE}-{PARENT}-01"})
UNSAMPLED = Metadata({"traceparent": f"00-{TRACE}-{PARENT}-00"})


class Traces:
    """What a tracer has sent."""

    def __init__(self, ratio: float) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(self.exporter, IDENTITY, ratio)

    def spans(self) -> list[ReadableSpan]:
        self.tracer._requests.force_flush()
        return list(self.exporter.get_finished_spans())

    def trace(self, parts: Parts) -> Parts:
        parts.inference._tracer = self.tracer
        parts.lifecycle.models.default.batcher._tracer = self.tracer
        return parts


@pytest.fixture
def never_drawn() -> Iterator[Traces]:
    traces = Traces(0.0)
    yield traces
    traces.tracer.close()


async def ask(parts: Parts, call: Metadata, *texts: str) -> None:
    await parts.inference.answer(ClassifyRequest(texts=texts), parts.inference.arrival("Classify", call))


async def test_a_request_is_traced_through_its_stages(tiny_model: Path, never_drawn: Traces) -> None:
    async with replica(tiny_model) as parts:
        await ask(never_drawn.trace(parts), SAMPLED, "hello", "my card")
    by_name = {span.name: span for span in never_drawn.spans()}
    assert set(by_name) == {"minwatt.v1.TextInference/Classify", "tokenise", "queue", "compute", "batch"}
    request = by_name["minwatt.v1.TextInference/Classify"]
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes is not None
    assert request.attributes["rpc.response.status_code"] == "OK"
    assert request.attributes["minwatt.texts"] == 2
    stages = [by_name[name] for name in ("tokenise", "queue", "compute")]
    for stage in stages:
        assert stage.parent == request.context
    times = [time for stage in stages for time in (stage.start_time, stage.end_time)]
    assert [request.start_time, *times, request.end_time] == sorted(
        [request.start_time, *times, request.end_time]  # type: ignore[type-var]
    )
    batch = by_name["batch"]
    assert batch.context is not None
    assert batch.context.trace_id != request.context.trace_id
    assert [link.context for link in batch.links] == [request.context]
    assert [link.context for link in by_name["compute"].links] == [batch.context]
    assert batch.resource.attributes["minwatt.model.name"] == "tiny-text"


async def test_requests_of_one_batch_are_linked_from_it(tiny_model: Path, never_drawn: Traces) -> None:
    async with replica(tiny_model, max_delay="50ms") as parts:
        never_drawn.trace(parts)
        await asyncio.gather(*(ask(parts, call, "hello") for call in (SAMPLED, UNSAMPLED, SAMPLED)))
    batches = [span for span in never_drawn.spans() if span.name == "batch"]
    assert sum(len(batch.links) for batch in batches) == 2
    requests = [span for span in never_drawn.spans() if span.name.endswith("Classify")]
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("ratio", "call", "traced"),
    [
        (0.0, SAMPLED, True),
        (1.0, UNSAMPLED, False),
        (0.0, Metadata(), False),
        (1.0, Metadata(), True),
        (1.0, Metadata({"traceparent": "00-nonsense"}), True),
        (0.0, Metadata({"traceparent": "ff" * 1000}), False),
    ],
)
async def test_the_caller_decides_and_the_ratio_where_it_says_nothing(
    tiny_model: Path, ratio: float, call: Metadata, traced: bool
) -> None:
    traces = Traces(ratio)
    async with replica(tiny_model) as parts:
        await ask(traces.trace(parts), call, "hello")
    assert bool(traces.spans()) == traced
    traces.tracer.close()


async def test_a_collector_that_is_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    exporter = InMemorySpanExporter()
    telling = _TellsOnce(exporter)
    exporter.shutdown()  # from here on it takes nothing
    with caplog.at_level("INFO"):
        for _ in range(3):
            telling.export([])
        exporter._stopped = False
        for _ in range(3):
            telling.export([])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_span_has_the_name_of_its_own_service(never_drawn: Traces) -> None:
    for service, method in (
        ("minwatt.v1.TextInference", "ClassifyStream"),
        ("inference.GRPCInferenceService", "ModelInfer"),
    ):
        span = never_drawn.tracer.request(method, 0.0, SAMPLED)
        assert isinstance(span, _RequestSpan)
        assert isinstance(span.span, ReadableSpan)
        assert span.span.name == f"{service}/{method}"


async def test_a_refused_request_says_why(tiny_model: Path, never_drawn: Traces) -> None:
    async with replica(tiny_model) as parts:
        with pytest.raises(Refusal):
            await ask(never_drawn.trace(parts), SAMPLED)
    (span,) = never_drawn.spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "INVALID_ARGUMENT"
    assert span.status.is_unset
