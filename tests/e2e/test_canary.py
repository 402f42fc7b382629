"""No word of a client's text leaves the replica but in its reply: not in logs, traces, metrics or errors."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

CANARY = "canarybird"
TEXT = f"alice {CANARY} lives in paris"
METADATA = (
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-request-id", "request-17"),
)
SERVICE = "/minwatt.v1.TextInference/"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Collector:
    """Takes traces and keeps the bytes as they came."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((self._Handler(self.received),))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()

    class _Handler(grpc.GenericRpcHandler):
        def __init__(self, received: list[bytes]) -> None:
            self._received = received

        def service(self, details: grpc.HandlerCallDetails) -> Any:
            def export(request: bytes, _: grpc.ServicerContext) -> bytes:
                self._received.append(request)
                return b""

            return grpc.unary_unary_rpc_method_handler(export) if details.method == EXPORT else None


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


class Told:
    """What clients were told beside answers."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.errors: list[str] = []
        self._channel = channel

    def call(self, method: str, request: bytes, code: grpc.StatusCode, timeout_s: float = 30) -> bytes:
        """One raw unary call that must end so."""
        call = self._channel.unary_unary(SERVICE + method).future(
            request, timeout=timeout_s, metadata=METADATA
        )
        assert call.code() is code, call.details()
        if code is not grpc.StatusCode.OK:
            self.errors.append(f"{call.details()} {call.trailing_metadata()}")
            return b""
        reply: bytes = call.result()
        return reply


def ways_out(told: Told, channel: grpc.Channel) -> None:
    """Every way a request with the canary can end."""
    ok, invalid = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
    good = pb.ClassifyRequest(texts=[TEXT])
    for _ in range(2):  # computed, then known
        assert told.call("Classify", good.SerializeToString(), ok)
        found = told.call("ExtractEntities", pb.ExtractEntitiesRequest(texts=[TEXT]).SerializeToString(), ok)
        assert pb.ExtractEntitiesResponse.FromString(found).results[0].entities
    refused: list[tuple[dict[str, Any], grpc.StatusCode]] = [
        ({"texts": [TEXT * 100]}, invalid),
        ({"texts": [TEXT, ""]}, invalid),
        ({"texts": [TEXT] * 300}, invalid),
        ({"texts": [TEXT], "options": pb.ClassifyOptions(top_k=99)}, invalid),
        ({"texts": [TEXT], "model": "other"}, grpc.StatusCode.NOT_FOUND),
        ({"texts": [TEXT * 1000]}, grpc.StatusCode.RESOURCE_EXHAUSTED),  # refused with details
        ({"texts": [TEXT * 5000]}, grpc.StatusCode.RESOURCE_EXHAUSTED),  # refused by the transport
    ]
    for fields, code in refused:
        told.call("Classify", pb.ClassifyRequest(**fields).SerializeToString(), code)
    text = TEXT.encode()
    for broken in (text, b"\x12\x20" + text + b"\xff\xfe\xff\xfe\xff", b"\x12\xff" + text, text[::-1]):
        told.call("Classify", broken, invalid)
    told.call("NoSuchMethod", good.SerializeToString(), grpc.StatusCode.UNIMPLEMENTED)
    late = pb.ClassifyRequest(texts=[f"{TEXT} {n}" for n in range(200)])
    told.call("Classify", late.SerializeToString(), grpc.StatusCode.DEADLINE_EXCEEDED, timeout_s=1e-4)
    stub = TextInferenceStub(channel)
    leaving = stub.Classify.future(late, metadata=METADATA)
    leaving.cancel()
    items = [
        pb.ClassifyStreamRequest(id="1", request=good),
        pb.ClassifyStreamRequest(id="2", request=pb.ClassifyRequest(texts=[TEXT, " "])),
        pb.ClassifyStreamRequest(id="3", request=good, timeout_seconds=-1),
    ]
    replies = {reply.id: reply for reply in stub.ClassifyStream(iter(items), metadata=METADATA, timeout=30)}
    assert replies["1"].HasField("response")
    told.errors += [str(replies[id_].error) for id_ in "23"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_canary_is_nowhere(tiny_model: Path, collector: Collector, form: str) -> None:
    flags = [
        *("--log-format", form, "--log-level", "debug", "--otlp-endpoint", collector.endpoint),
        *("--cache-bytes", "1048576", "--max-message-bytes", "16384", "--meter", "modelled"),
    ]
    with ReplicaProcess(tiny_model, *flags) as replica:
        with grpc.insecure_channel(replica.target) as channel:
            told = Told(channel)
            ways_out(told, channel)
        with urllib.request.urlopen(replica.metrics_url) as response:
            metrics = response.read().decode()
        replica.terminate()
        assert replica.wait() == 0
        logs = replica.stderr
    traces = b"".join(collector.received)
    for kind, written in (
        ("logs", logs),
        ("traces", traces.decode("latin-1")),
        ("metrics", metrics),
        ("errors", "\n".join(told.errors)),
    ):
        assert written, kind
        assert CANARY not in written.lower(), kind
        assert CANARY[::-1] not in written.lower(), kind
    # The test can fail: requests were logged and traced.
    assert logs.count("request ended") > 10
    assert "request-17" in logs
    for name in (b"tokenise", b"queue", b"compute", b"batch", b"TextInference/Classify"):
        assert name in traces
    assert 'minwatt_cache_texts_total{outcome="hit"} ' in metrics
    if form == "json":
        for line in logs.splitlines():
            assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_a_collector_that_is_away_costs_no_request(tiny_model: Path) -> None:
    with (
        ReplicaProcess(tiny_model, "--otlp-endpoint", "http://127.0.0.1:1", "--meter", "modelled") as replica,
        grpc.insecure_channel(replica.target) as channel,
    ):
        stub = TextInferenceStub(channel)
        for _ in range(50):
            stub.Classify(pb.ClassifyRequest(texts=[TEXT]), timeout=30)
        replica.terminate()
        assert replica.wait() == 0
        assert CANARY not in replica.stderr
        assert replica.stderr.count("traces are lost") <= 1
        assert replica.stderr.count("opentelemetry") == 0


def test_nothing_of_the_extras_is_read_unless_asked_for(tiny_model: Path) -> None:
    """Imported or not is seen in the process itself."""

    check = (
        "import sys\n"
        "from service.assembly import assemble\n"
        "from service.settings import ServeSettings\n"
        f"parts = assemble(ServeSettings.of_flags(model={str(tiny_model)!r}, meter='modelled'))\n"
        "parts.inference.close(); parts.power.close()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'redis')])\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
