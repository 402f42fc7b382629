"""OpenTelemetry: the only file that imports it. Read only where traces are asked for.

A request's trace: `tokenise`, then for each of its batches `queue` and `compute`. A batch has a trace of its
own, with links to its requests' spans; each `compute` links back to it. Whether a request is traced is its
caller's decision (W3C `traceparent`); one without a caller's is drawn by ratio. Spans are made when a stage
is over, from the times that the server takes anyway, and sent by a thread of the library's own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import DESCRIPTOR
from service.calls import Call
from service.replica import Identity
from service.request import ComputedBatch, Cost
from service.spans import RequestSpan

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise UsageError("otlp-endpoint: needs OpenTelemetry: pip install 'minwatt[otel]'") from error

SERVICE = DESCRIPTOR.services_by_name["TextInference"].full_name
EXPORT_TIMEOUT_S = 2.0  # one try; a collector that is away costs spans, never requests
CLOSE_TIMEOUT_S = 3.0
CONTEXT_KEYS = ("traceparent", "tracestate")
# On a server's span these are errors, the others the caller's (OpenTelemetry's conventions for gRPC).
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

log = logging.getLogger(__name__)


class OtelTracer:
    """Spans to an OTLP collector over gRPC."""

    def __init__(
        self,
        exporter: SpanExporter,
        identity: Identity,
        sampled_ratio: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        resource = Resource.create(
            {
                "service.name": "minwatt",
                "service.instance.id": identity.replica_id,
                "host.name": identity.host,
                "process.pid": identity.pid,
                "minwatt.model.name": identity.model,
                "minwatt.model.version": identity.model_version,
                "minwatt.model.variant": identity.variant,
            }
        )
        self._requests = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sampled_ratio), resource=resource, shutdown_on_exit=False
        )
        # A batch that carries a traced request is traced, whatever the ratio would draw for it.
        self._batches = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        processor = BatchSpanProcessor(exporter, schedule_delay_millis=1000)
        self._requests.add_span_processor(processor)
        self._batches.add_span_processor(processor)
        self._of_requests = self._requests.get_tracer("minwatt")
        self._of_batches = self._batches.get_tracer("minwatt")
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock

    def request(self, method: str, started_s: float, call: Call | None) -> RequestSpan | None:
        carrier = {}
        if call is not None:
            carrier = {key: value for key in CONTEXT_KEYS if (value := call.metadata(key)) is not None}
        epoch_ns = time.time_ns() - round(self._clock() * 1e9)
        span = self._of_requests.start_span(
            f"{SERVICE}/{method}",
            context=self._propagator.extract(carrier, context=Context()),
            kind=SpanKind.SERVER,
            start_time=epoch_ns + round(started_s * 1e9),
            attributes={"rpc.system.name": "grpc", "rpc.method": f"{SERVICE}/{method}"},
        )
        return _RequestSpan(self, span, epoch_ns, started_s) if span.is_recording() else None

    def batch(self, spans: Collection[RequestSpan | None], texts: int, computed: ComputedBatch) -> None:
        traced = [span for span in spans if isinstance(span, _RequestSpan)]
        if not traced:
            return
        started_ns = traced[0].at_ns(computed.started_s)
        ended_s = computed.started_s + computed.compute_s
        span = self._of_batches.start_span(
            "batch",
            context=Context(),
            links=[Link(one.span.get_span_context()) for one in traced],
            start_time=started_ns,
            attributes={
                "minwatt.batch.texts": texts,
                "minwatt.batch.padded_tokens": computed.padded_tokens,
                "minwatt.batch.traced_requests": len(traced),
            },
        )
        for one in traced:
            one.computed(computed.started_s, ended_s, span)
        span.end(traced[0].at_ns(ended_s))

    def child(self, parent: Span, name: str, started_ns: int, links: Collection[Span]) -> Span:
        return self._of_requests.start_span(
            name,
            context=set_span_in_context(parent, Context()),
            start_time=started_ns,
            links=[Link(one.get_span_context()) for one in links],
        )

    def close(self) -> None:
        """On a thread that may be left behind: the library waits up to 30 s for a collector that is away."""

        def shut_down() -> None:
            self._requests.shutdown()
            self._batches.shutdown()

        closing = threading.Thread(target=shut_down, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_S)


class _TellsOnce(SpanExporter):
    """One line when the collector goes and one when it is back; the library's own would be one a second."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning("traces are lost: the collector takes none")
        elif self._away and not away:
            log.info("the collector takes traces again")
        self._away = away
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _RequestSpan:
    """Of a sampled request."""

    def __init__(self, tracer: OtelTracer, span: Span, epoch_ns: int, started_s: float) -> None:
        self.span = span
        self._tracer = tracer
        self._epoch_ns = epoch_ns  # when the monotonic clock was 0
        self._waits_since_s = started_s

    def at_ns(self, at_s: float) -> int:
        return self._epoch_ns + round(at_s * 1e9)

    def stage(self, name: str, started_s: float, ended_s: float) -> None:
        self._child(name, started_s, ended_s)
        self._waits_since_s = ended_s

    def computed(self, started_s: float, ended_s: float, batch: Span) -> None:
        self._child("queue", self._waits_since_s, started_s)
        self._child("compute", started_s, ended_s, [batch])

    def end(self, ended_s: float, status: str, texts: int, cost: Cost) -> None:
        self.span.set_attribute("rpc.response.status_code", status)
        if status == "OK":
            self.span.set_attribute("minwatt.texts", texts)
            self.span.set_attribute("minwatt.tokens", cost.tokens)
            self.span.set_attribute("minwatt.cached_texts", cost.cached_texts)
        else:
            self.span.set_attribute("error.type", status)
        if status in SERVER_ERRORS:
            self.span.set_status(StatusCode.ERROR)
        self.span.end(self.at_ns(ended_s))

    def _child(self, name: str, started_s: float, ended_s: float, links: Collection[Span] = ()) -> None:
        child = self._tracer.child(self.span, name, self.at_ns(started_s), links)
        child.end(self.at_ns(max(started_s, ended_s)))


def otlp_tracer(endpoint: str, identity: Identity, sampled_ratio: float) -> OtelTracer:
    """`endpoint`: http://HOST:PORT, or https:// for TLS."""
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
    return OtelTracer(_TellsOnce(exporter), identity, sampled_ratio)
