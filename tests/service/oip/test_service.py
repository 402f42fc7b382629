"""The service as a front end calls it, on a real engine: no bytes make it fail, answers are minwatt.v1's, a
stream keeps its order."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.fleet_pb2 import REPLICA_STATE_DRAINING, REPLICA_STATE_READY, REPLICA_STATE_STARTING
from minwatt.v1.inference_pb2 import ClassifyOptions, ClassifyRequest
from service.assembly import Parts, assemble
from service.calls import Call, Service
from service.oip import open_inference_pb2 as pb
from service.oip.bytes_tensor import packed, unpacked
from service.oip.models import Deployed
from service.oip.repository import Repository
from service.oip.service import Served, open_inference
from service.settings import ServeSettings
from service.statuses import Refusal

INTENT, ENTITY = "tiny-text.intent", "tiny-text.entity"
TOO_LONG = "alice " * 100
REPLIES = {
    "ServerLive": pb.ServerLiveResponse,
    "ServerReady": pb.ServerReadyResponse,
    "ModelReady": pb.ModelReadyResponse,
    "ServerMetadata": pb.ServerMetadataResponse,
    "ModelMetadata": pb.ModelMetadataResponse,
    "ModelConfig": pb.ModelConfigResponse,
    "ModelStatistics": pb.ModelStatisticsResponse,
    "RepositoryIndex": pb.RepositoryIndexResponse,
    "RepositoryModelLoad": pb.RepositoryModelLoadResponse,
    "RepositoryModelUnload": pb.RepositoryModelUnloadResponse,
    "ModelInfer": pb.ModelInferResponse,
}
CLIENTS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass
class Caller:
    """A call, and the client's end of it."""

    timeout_s: float | None = 10.0
    peer_identity: str | None = None
    sent: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    def metadata(self, key: str) -> str | None:
        return None

    async def read(self) -> bytes | None:
        await asyncio.sleep(0)
        return self.sent.pop(0) if self.sent else None

    async def write(self, message: bytes) -> None:
        await self.reading.wait()
        self.received.append(message)


@dataclass
class Running:
    """A replica without a front end."""

    parts: Parts
    service: Service
    loop: asyncio.Runner

    def call(self, method: str, data: bytes) -> bytes:
        async def called() -> bytes:
            return await self.service.unary[method](data, Caller())

        return self.loop.run(called())

    def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        return pb.ModelInferResponse.FromString(self.call("ModelInfer", request.SerializeToString()))

    def stream(self, *messages: bytes) -> list[pb.ModelStreamInferResponse]:
        async def called() -> list[bytes]:
            caller = Caller(sent=list(messages))
            caller.reading.set()
            await self.service.streams["ModelStreamInfer"](caller)
            return caller.received

        return [pb.ModelStreamInferResponse.FromString(reply) for reply in self.loop.run(called())]


def nobody(_call: Call) -> None:
    raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "invalid", "no admin")


@pytest.fixture(scope="module")
def running(tiny_model: Path) -> Iterator[Running]:
    settings = ServeSettings.of_flags(model=tiny_model, meter="modelled", max_texts=8, max_delay="0s")
    parts = assemble(settings)
    served = Served(parts.replica, Repository(parts.lifecycle, nobody), Deployed("cpu", 8), 4096, 4)
    with asyncio.Runner() as loop:

        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(parts.lifecycle.run())

        async def stop(batcher: asyncio.Task[None]) -> None:
            batcher.cancel()
            await asyncio.wait({batcher})

        parts.replica.state = REPLICA_STATE_READY
        batcher = loop.run(start())
        yield Running(parts, open_inference(parts.inference, served), loop)
        loop.run(stop(batcher))
    parts.inference.close()
    parts.power.close()


def message(model: str, *texts: str, **fields: object) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    raw = packed([text.encode() for text in texts])
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw], **fields)  # type: ignore[arg-type]


parameter = st.one_of(
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    st.builds(pb.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    st.builds(pb.InferParameter, double_param=st.floats()),
    st.builds(pb.InferParameter, string_param=st.text(max_size=9)),
    st.just(pb.InferParameter()),
)
named = st.sampled_from(["top_k", "min_score", "long_text", "priority", "timeout", "sequence_id", ""])
parameters = st.dictionaries(named, parameter, max_size=2)
contents = st.builds(
    pb.InferTensorContents,
    bytes_contents=st.lists(st.binary(max_size=9), max_size=3),
    int_contents=st.lists(st.integers(-9, 9), max_size=1),
)
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["TEXT", "text"]),
    datatype=st.sampled_from(["BYTES", "BYTES", "FP32"]),
    shape=st.lists(st.integers(-1, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
    parameters=st.dictionaries(
        st.sampled_from(["content_type", "shared_memory_region"]), parameter, max_size=1
    ),
    contents=st.none() | contents,
)
texts = st.lists(
    st.sampled_from(["hello", "alice in paris", "", " ", "\0", TOO_LONG]) | st.text(), max_size=9
)
raws = st.binary(max_size=30) | texts.map(lambda many: packed([text.encode() for text in many]))
requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from([INTENT, ENTITY, "tiny-text", ""]),
    model_version=st.sampled_from(["", "", "1", "2"]),
    id=st.text(max_size=9),
    parameters=parameters,
    inputs=st.lists(tensors, max_size=2),
    outputs=st.lists(
        st.builds(
            pb.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["LABELS", "SCORES", "ENTITIES", "TRUNCATED", "x"]),
            parameters=st.dictionaries(st.just("classification"), parameter, max_size=1),
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(raws, max_size=2),
)
nearly_right = st.builds(
    lambda model, many, options: message(model, *many, parameters=options),
    st.sampled_from([INTENT, ENTITY]),
    texts,
    parameters,
)
frames = st.one_of(
    st.binary(max_size=60),
    st.binary(min_size=5000, max_size=5001),
    requests.map(pb.ModelInferRequest.SerializeToString),
    nearly_right.map(pb.ModelInferRequest.SerializeToString),
)


@given(frames, st.sampled_from(sorted(REPLIES)))
def test_no_bytes_make_a_method_fail(running: Running, frame: bytes, method: str) -> None:
    refusal = None
    try:
        reply = running.call(method, frame)
    except Refusal as raised:
        refusal = raised
    if refusal is None:
        assert REPLIES[method].FromString(reply) is not None
    else:
        assert refusal.code in CLIENTS_FAULT, refusal
        assert len(refusal.message) < 500


@given(st.lists(frames, max_size=6))
def test_no_bytes_end_a_stream(running: Running, sent: list[bytes]) -> None:
    replies = running.stream(*sent)
    assert len(replies) == len(sent)
    for reply in replies:
        assert bool(reply.error_message) != bool(reply.infer_response.outputs)
    assert running.parts.counters.in_flight == 0


@given(nearly_right)
def test_every_text_that_is_answered_has_a_row(running: Running, request: pb.ModelInferRequest) -> None:
    try:
        reply = running.infer(request)
    except Refusal:
        return
    assert len(reply.outputs) == len(reply.raw_output_contents) == (3 if request.model_name == INTENT else 2)
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        rows, width = output.shape
        assert rows == request.inputs[0].shape[0]
        if output.datatype == "BYTES":
            assert len(unpacked(raw, rows * width)) == rows * width
        else:
            assert len(raw) == rows * width * {"FP32": 4, "BOOL": 1}[output.datatype]


def test_answers_are_those_of_minwatt_v1(running: Running) -> None:
    texts = ["where is my card", "hello", "alice lives in new york"]
    inference = running.parts.inference

    async def classified() -> object:
        request = ClassifyRequest(texts=texts, options=ClassifyOptions(top_k=2))
        return await inference.answer(request, inference.arrival("Classify", None, 10))

    top_k = {"top_k": pb.InferParameter(int64_param=2)}
    reply = running.infer(message(INTENT, *texts, parameters=top_k))
    expected = running.loop.run(classified())
    names = [label.name.encode() for result in expected.results for label in result.labels]  # type: ignore[attr-defined]
    assert unpacked(reply.raw_output_contents[0], 6) == names
    entities = unpacked(running.infer(message(ENTITY, *texts)).raw_output_contents[0], 3)
    assert [[found["text"] for found in json.loads(told)] for told in entities] == [
        [],
        [],
        ["alice", "new york"],
    ]


def test_a_refusal_names_the_text_as_it_is_called_here(running: Running) -> None:
    with pytest.raises(Refusal, match=r"^TEXT\[1\]: has 102 tokens; the limit is 64"):
        running.infer(message(INTENT, "hello", TOO_LONG))
    with pytest.raises(Refusal, match=r"^TEXT: is empty"):
        running.infer(message(ENTITY))
    cut = {"long_text": pb.InferParameter(string_param="truncate")}
    reply = running.infer(message(INTENT, "hello", TOO_LONG, parameters=cut))
    assert reply.raw_output_contents[2] == b"\0\1"


@pytest.mark.parametrize(
    ("name", "field"),
    [("inputs-name", "inputs[0].name"), ("a-model", "model_name"), ("content_type", "(message)")],
)
def test_a_string_that_is_not_utf8_is_named(running: Running, name: str, field: str) -> None:
    request = message("a-model", "hello")
    request.inputs[0].name = "inputs-name"
    request.inputs[0].parameters["content_type"].string_param = "str"
    frame = request.SerializeToString().replace(name.encode(), b"\xff" + name[1:].encode())
    with pytest.raises(Refusal, match=re.escape(f"{field}: ")) as refused:
        running.call("ModelInfer", frame)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_has_a_timeout_of_its_own(running: Running) -> None:
    with pytest.raises(Refusal) as refused:
        running.infer(message(INTENT, "hello", parameters={"timeout": pb.InferParameter(int64_param=1)}))
    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_answers_in_order_and_goes_on_after_a_refusal(running: Running) -> None:
    sent = [message(INTENT, "hello" if n % 3 else "", id=str(n)) for n in range(20)]
    replies = running.stream(*(request.SerializeToString() for request in sent))
    assert [reply.infer_response.id for reply in replies] == [str(n) for n in range(20)]
    assert [bool(reply.error_message) for reply in replies] == [n % 3 == 0 for n in range(20)]
    assert all(reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def test_a_client_that_reads_nothing_is_not_read_further_and_leaves_nothing_behind(running: Running) -> None:
    async def called() -> int:
        caller = Caller(sent=[message(INTENT, "hello").SerializeToString()] * 100)
        stream = asyncio.create_task(running.service.streams["ModelStreamInfer"](caller))  # type: ignore[arg-type]
        for _ in range(10_000):
            await asyncio.sleep(0.001)
            if len(caller.sent) <= 94 and not running.parts.counters.in_flight:
                break
        left = len(caller.sent)
        await stop(stream)
        return left

    assert running.loop.run(called()) == 100 - 4 - 2, (
        "4 wait for the writer, which holds one, as the reader does"
    )
    assert running.parts.counters.in_flight == 0


def test_counts_are_of_the_model(running: Running) -> None:
    def told(name: str) -> pb.ModelStatistics:
        request = pb.ModelStatisticsRequest(name=name).SerializeToString()
        reply = pb.ModelStatisticsResponse.FromString(running.call("ModelStatistics", request))
        return next(one for one in reply.model_stats if one.name == (name or INTENT))

    before, other = told(INTENT), told(ENTITY)
    running.infer(message(INTENT, "hello", "hello"))
    with pytest.raises(Refusal):
        running.infer(message(INTENT, ""))
    after = told("")
    assert after.inference_count - before.inference_count == 2
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.last_inference > 0
    assert told(ENTITY) == other


def test_readiness_follows_the_replica(running: Running) -> None:
    replica = running.parts.replica

    def ready() -> tuple[bool, bool, list[str]]:
        index = pb.RepositoryIndexResponse.FromString(running.call("RepositoryIndex", b""))
        model = pb.ModelReadyRequest(name=INTENT).SerializeToString()
        return (
            pb.ServerReadyResponse.FromString(running.call("ServerReady", b"")).ready,
            pb.ModelReadyResponse.FromString(running.call("ModelReady", model)).ready,
            sorted({one.state for one in index.models}),
        )

    try:
        assert ready() == (True, True, ["READY"])
        replica.state = REPLICA_STATE_DRAINING
        assert ready() == (False, False, ["UNLOADING"])
        replica.state = REPLICA_STATE_STARTING
        assert ready() == (False, False, ["LOADING"])
        only_ready = pb.RepositoryIndexRequest(ready=True).SerializeToString()
        index = pb.RepositoryIndexResponse.FromString(running.call("RepositoryIndex", only_ready))
        assert not index.models
        with pytest.raises(Refusal) as refused:
            running.infer(message(INTENT, "hello"))
        assert refused.value.code is grpc.StatusCode.UNAVAILABLE
    finally:
        replica.state = REPLICA_STATE_READY
    absent = pb.ModelReadyRequest(name="absent").SerializeToString()
    assert not pb.ModelReadyResponse.FromString(running.call("ModelReady", absent)).ready
