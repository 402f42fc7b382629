"""One real replica: answers, refusals with details, health, reflection, metrics; unharmed afterwards."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import minwatt
from minwatt.cli import main
from minwatt.failures import request_failed
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from service.assembly import assemble
from service.door import Door, DoorOptions
from service.rpc import RpcLimits, text_inference
from service.settings import ServeSettings
from tests.e2e.replica_process import ReplicaProcess
from tests.tiny_model import MAX_TOKENS

pytestmark = pytest.mark.both_modes

SECRET = "hello xylophone"  # a text that must not show up in any log


@pytest.fixture(scope="module")
def replica(tiny_model: Path, front_ends: int) -> Iterator[ReplicaProcess]:
    flags = (
        "--max-message-bytes",
        "4096",
        "--max-texts",
        "8",
        "--max-queue-texts",
        "8",
        "--max-in-flight",
        "4",
    )
    with ReplicaProcess(tiny_model, *flags, "--meter", "modelled") as replica:
        yield replica


@pytest.fixture(scope="module")
def channel(replica: ReplicaProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(replica.target) as channel:
        yield channel


@pytest.fixture
def client(replica: ReplicaProcess) -> Iterator[minwatt.Client]:
    with minwatt.Client(replica.target) as client:
        yield client


def raw(channel: grpc.Channel, frame: bytes, timeout_s: float | None = 5) -> grpc.RpcError:
    """What the server says to a frame of bytes that no stub would send."""
    call = channel.unary_unary("/minwatt.v1.TextInference/Classify", bytes, pb.ClassifyResponse.FromString)
    with pytest.raises(grpc.RpcError) as raised:
        call(frame, timeout=timeout_s)
    return raised.value


def violated(error: grpc.RpcError) -> list[str]:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    bad = BadRequest()
    assert Status.FromString(details).details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


def test_the_ready_line_says_what_is_served(replica: ReplicaProcess) -> None:
    assert (replica.model, replica.watts) == ("tiny-text 1 int8", "modelled")


def test_the_client_gets_typed_answers(client: minwatt.Client) -> None:
    reply = client.classify(["where is my card?", "hello"], top_k=2)
    assert [len(result.labels) for result in reply] == [2, 2]
    assert reply[0].score is not None
    assert reply[0].label == reply[0].labels[0].name
    assert reply.model == minwatt.Model("tiny-text", "1", "int8")
    assert reply.usage.tokens == 7 + 3  # [CLS] and [SEP] count
    assert reply.usage.compute_s > 0
    assert reply.usage.energy_source == "modelled"
    assert reply.usage.energy_j is not None
    assert reply.usage.energy_j > 0
    text = "😀 José Smith lives in 東京"
    entities = client.extract_entities([text])[0].entities
    assert [(e.label, e.text) for e in entities] == [("PER", "José Smith"), ("LOC", "東京")]
    assert all(text[e.start : e.end] == e.text for e in entities)


async def test_the_async_client_does_the_same(replica: ReplicaProcess) -> None:
    async with minwatt.AsyncClient(replica.target) as client:
        labels, entities = await asyncio.gather(
            client.classify(["hello"]), client.extract_entities(["alice"])
        )
        assert labels[0].label
        assert entities[0].entities[0].text == "alice"
        with pytest.raises(minwatt.RequestFailed, match=r"NOT_FOUND: model 'x' is not served here"):
            await minwatt.AsyncClient(replica.target, model="x").classify(["hello"])


@pytest.mark.parametrize(
    ("texts", "field"),
    [([], "texts"), (["a", ""], "texts[1]"), (["a"] * 9, "texts"), ([SECRET, "alice " * 100], "texts[1]")],
)
def test_bad_texts_are_named(client: minwatt.Client, texts: list[str], field: str) -> None:
    with pytest.raises(minwatt.RequestFailed) as raised:
        client.classify(texts)
    assert raised.value.code == "INVALID_ARGUMENT"
    assert [violation.field for violation in raised.value.violations] == [field]


def test_a_long_text_says_its_length_or_is_cut(client: minwatt.Client) -> None:
    with pytest.raises(minwatt.RequestFailed, match=f"has 102 tokens; the limit is {MAX_TOKENS}"):
        client.classify(["alice " * 100])
    assert client.classify(["alice " * 100], truncate=True)[0].truncated


def test_frames_that_are_no_request(channel: grpc.Channel, client: minwatt.Client) -> None:
    not_utf8 = raw(channel, b"\x12\x03a\xffb")
    assert (not_utf8.code(), violated(not_utf8)) == (grpc.StatusCode.INVALID_ARGUMENT, ["texts[0]"])
    malformed = raw(channel, b"\x12\xff")
    assert (malformed.code(), violated(malformed)) == (grpc.StatusCode.INVALID_ARGUMENT, ["(message)"])
    too_large = raw(channel, bytes(5000))
    assert (too_large.code(), violated(too_large)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, ["(message)"])
    huge = raw(channel, bytes(1_000_000))  # the transport's own limit: refused unread
    assert huge.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    option = raw(channel, b"\x12\x01a\x1a\x02\x78\x01")
    assert (option.code(), violated(option)) == (grpc.StatusCode.INVALID_ARGUMENT, ["options"])
    assert client.classify(["hello"])[0].label


def test_a_deadline_is_kept(client: minwatt.Client, channel: grpc.Channel) -> None:
    texts = ["hello " * 60] * 8  # a short one is sometimes answered in time
    with pytest.raises(minwatt.RequestFailed) as raised:
        client.classify(texts, timeout_s=0.0001)
    assert raised.value.code == "DEADLINE_EXCEEDED"
    request = pb.ClassifyRequest(texts=texts).SerializeToString()
    assert raw(channel, request, timeout_s=0.0001).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.classify(["hello"])[0].label


async def test_a_full_replica_says_when_to_retry(replica: ReplicaProcess) -> None:
    async with grpc.aio.insecure_channel(replica.target) as channel:
        stub = TextInferenceStub(channel)
        request = pb.ClassifyRequest(texts=["hello"] * 8)
        outcomes = await asyncio.gather(
            *(stub.Classify(request, timeout=10) for _ in range(60)), return_exceptions=True
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < 60
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = RetryInfo()
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert Status.FromString(details).details[0].Unpack(retry)
        assert retry.retry_delay.ToNanoseconds() > 0


async def test_a_stream_carries_many_requests_and_goes_on_after_errors(replica: ReplicaProcess) -> None:
    requests = [
        pb.ExtractEntitiesStreamRequest(id="1", request=pb.ExtractEntitiesRequest(texts=["alice"])),
        pb.ExtractEntitiesStreamRequest(id="2", request=pb.ExtractEntitiesRequest(texts=[])),
        pb.ExtractEntitiesStreamRequest(id="3", request=pb.ExtractEntitiesRequest(model="x", texts=["a"])),
        pb.ExtractEntitiesStreamRequest(
            id="4", request=pb.ExtractEntitiesRequest(texts=["a"]), timeout_seconds=-1
        ),
        pb.ExtractEntitiesStreamRequest(
            id="5", request=pb.ExtractEntitiesRequest(texts=["a"]), timeout_seconds=1e-6
        ),
        pb.ExtractEntitiesStreamRequest(id="6", request=pb.ExtractEntitiesRequest(texts=["acme bank"])),
    ]
    async with grpc.aio.insecure_channel(replica.target) as channel:
        call = TextInferenceStub(channel).ExtractEntitiesStream(iter(requests), timeout=10)
        replies = {reply.id: reply async for reply in call}
    codes = {
        id_: reply.error.code for id_, reply in replies.items() if reply.WhichOneof("outcome") == "error"
    }
    expected = {"2": "INVALID_ARGUMENT", "3": "NOT_FOUND", "4": "INVALID_ARGUMENT", "5": "DEADLINE_EXCEEDED"}
    assert {id_: code_pb2.Code.Name(code) for id_, code in codes.items()} == expected
    assert replies["1"].response.results[0].entities[0].text == "alice"
    assert replies["6"].response.results[0].entities[0].label == "ORG"
    assert Status.FromString(replies["2"].error.status_details).details


async def test_a_refusal_repeats_no_more_of_a_request_than_fits(tiny_model: Path) -> None:
    """An id of any length comes back as the reply's id, but not once more in each text about it."""
    item = pb.ClassifyStreamRequest(id="\x00" * 3000, request=pb.ClassifyRequest(texts=["hello"]))
    patient = ReplicaProcess(tiny_model, "--max-delay", "1s", "--slo", "10s")  # the first waits for company
    with patient as replica:
        async with grpc.aio.insecure_channel(replica.target) as channel:
            call = TextInferenceStub(channel).ClassifyStream(iter([item, item, item]), timeout=10)
            replies = [reply async for reply in call]
    refused = [reply.error for reply in replies if reply.WhichOneof("outcome") == "error"]
    assert refused, "the same id three times"
    assert all(len(error.message) < 500 and len(error.status_details) < 1000 for error in refused)


async def test_clients_that_leave_cost_nothing_more(replica: ReplicaProcess) -> None:
    async with grpc.aio.insecure_channel(replica.target) as channel:
        stub = TextInferenceStub(channel)
        for _ in range(5):
            call = stub.Classify(pb.ClassifyRequest(texts=["hello"] * 8), timeout=10)
            await asyncio.sleep(0.002)
            call.cancel()
        stream = stub.ClassifyStream(timeout=10)
        await stream.write(pb.ClassifyStreamRequest(id="1", request=pb.ClassifyRequest(texts=["hello"])))
        stream.cancel()
        for _ in range(20):  # the transport breaks the stream while replies are being written
            frames = channel.stream_stream("/minwatt.v1.TextInference/ClassifyStream")
            hello = pb.ClassifyStreamRequest(request=pb.ClassifyRequest(texts=["hello"])).SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError):
                [reply async for reply in frames(iter([hello, hello, bytes(100_000)]), timeout=10)]
        assert (await stub.Classify(pb.ClassifyRequest(texts=["hello"]), timeout=10)).results
    assert metric(replica, "minwatt_in_flight_requests") == 0
    assert metric(replica, "minwatt_queue_depth_texts") == 0
    assert "Traceback" not in replica.stderr


def test_health_and_reflection(channel: grpc.Channel) -> None:
    probe = health_pb2_grpc.HealthStub(channel)
    for service in ("", "minwatt.v1.TextInference"):
        answer = probe.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=5)
    names = {service.name for service in answer.list_services_response.service}
    assert {"minwatt.v1.TextInference", "grpc.health.v1.Health"} <= names


def metric(replica: ReplicaProcess, name: str) -> float:
    with urllib.request.urlopen(replica.metrics_url, timeout=5) as response:
        page = response.read().decode()
    match = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    assert match, f"{name} is not in\n{page}"
    return float(match[1])


def test_metrics_count_what_happened(replica: ReplicaProcess, client: minwatt.Client) -> None:
    client.classify(["hello"])
    with pytest.raises(minwatt.RequestFailed):
        client.classify([])
    assert metric(replica, 'minwatt_request_duration_seconds_count{method="Classify",status="OK"}') >= 1
    assert metric(replica, 'minwatt_refusals_total{reason="invalid"}') >= 1
    assert metric(replica, "minwatt_batch_texts_count") >= 1
    assert metric(replica, "minwatt_padded_tokens_total") >= metric(replica, "minwatt_tokens_total") > 0
    assert metric(replica, "minwatt_ready") == 1
    assert metric(replica, 'minwatt_power_watts{source="modelled"}') > 0
    assert metric(replica, 'minwatt_energy_joules_total{source="modelled"}') > 0
    assert metric(replica, 'minwatt_apportioned_joules_total{part="requests",source="modelled"}') > 0


def test_texts_are_never_logged(replica: ReplicaProcess, client: minwatt.Client) -> None:
    client.classify([SECRET])
    assert "xylophone" not in replica.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--provider", "cuda"], "provider = 'cuda': not available here; available: cpu; "),
        (["--variant", "fp32"], "variant = 'fp32': not in model directory "),
        (["--model", "/nowhere"], "/nowhere/model.yaml: can't be read "),
        (["--meter", "sundial"], "meter = 'sundial': allowed: auto, "),
        (["--slo", "5"], "options: slo = '5': allowed: "),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    assert mistake(tiny_model, capsys, ["--port", "0", *flags]).startswith(f"minwatt serve: {line}")


def test_a_taken_port_is_a_mistake(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], replica: ReplicaProcess
) -> None:
    port = replica.target.rpartition(":")[2]
    line = mistake(tiny_model, capsys, ["--port", port])
    assert line.startswith(
        f"minwatt serve: port = {port}: 127.0.0.1:{port} can't be bound (Address already in use)"
    )


def mistake(model: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> str:
    """The one line on stderr of a command that exits with 2."""
    with pytest.raises(SystemExit) as left:
        main(["serve", "--model", str(model), "--metrics-port", "0", *flags])
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


async def test_a_replica_that_is_starting_says_so(tiny_model: Path) -> None:
    """Before the model is warm: listening, not serving."""
    settings = ServeSettings.of_flags(model=tiny_model, port=0, meter="modelled")
    parts = assemble(settings)
    door = Door(
        DoorOptions("127.0.0.1", 0, False, settings.max_message_bytes, settings.max_connection_age_s, 100)
    )
    target = await door.open([text_inference(parts.inference, RpcLimits(4096, 4))])
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        probe = health_pb2_grpc.HealthStub(channel)
        for service in ("", "minwatt.v1.TextInference"):
            answer = await probe.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await TextInferenceStub(channel).Classify(pb.ClassifyRequest(texts=["hello"]))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert request_failed(raised.value).retry_after_s == 1.0
        door.set_serving(True)
        answer = await probe.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await door.close(0)
    parts.inference.close()
    parts.power.close()
