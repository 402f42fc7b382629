"""Stock clients of the Open Inference Protocol, unmodified, against a real replica: Triton's Python clients
(sync and aio), bare stubs as KServe's clients use them, and NVIDIA's perf_analyzer."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import queue
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import minwatt
from service.server import ONE_SIGNAL_S
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

INTENT, ENTITY = "tiny-text.intent", "tiny-text.entity"
SERVICE = "inference.GRPCInferenceService"
TEXTS = ["where is my card", "hello", "alice smith lives in new york"]
PERF_ANALYZER = Path(__file__).parents[2] / ".perf-analyzer"


@pytest.fixture(scope="module")
def replica(tiny_model: Path, front_ends: int) -> Iterator[ReplicaProcess]:
    with ReplicaProcess(tiny_model, "--max-texts", "8", "--meter", "modelled") as replica:
        yield replica


@pytest.fixture
def client(replica: ReplicaProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(replica.target) as client:
        yield client


def texts(*values: str, of: Any = triton) -> list[Any]:
    tensor = of.InferInput("TEXT", [len(values), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value.encode()] for value in values], dtype=object))
    return [tensor]


def test_the_server_tells_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(INTENT)
    assert client.is_model_ready(ENTITY, "1")
    assert not client.is_model_ready("absent")
    server = client.get_server_metadata()
    assert server.name == "minwatt"
    assert {"statistics", "model_configuration"} <= set(server.extensions)
    index = client.get_model_repository_index(as_json=True)
    assert [(one["name"], one["version"], one["state"]) for one in index["models"]] == [
        (INTENT, "1", "READY"),
        (ENTITY, "1", "READY"),
    ]


def test_a_model_tells_its_tensors(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata(INTENT)
    assert [(one.name, one.datatype, one.shape) for one in metadata.inputs] == [("TEXT", "BYTES", [-1, 1])]
    assert [(one.name, one.datatype, one.shape) for one in metadata.outputs] == [
        ("LABELS", "BYTES", [-1, -1]),
        ("SCORES", "FP32", [-1, -1]),
        ("TRUNCATED", "BOOL", [-1, 1]),
    ]
    config = client.get_model_config(ENTITY).config
    assert config.max_batch_size == 8
    assert [one.name for one in config.output] == ["ENTITIES", "TRUNCATED"]
    assert "B-PER" in json.loads(config.parameters["labels"].string_value)
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_answers_are_those_of_minwatt_s_own_client(
    client: triton.InferenceServerClient, replica: ReplicaProcess
) -> None:
    with minwatt.Client(replica.target) as own:
        classified = own.classify(TEXTS, top_k=2)
        extracted = own.extract_entities(TEXTS)
    reply = client.infer(INTENT, texts(*TEXTS), request_id="42", parameters={"top_k": 2})
    assert reply.as_numpy("LABELS").tolist() == [[o.name.encode() for o in r.labels] for r in classified]
    scores = [[label.score for label in result.labels] for result in classified]
    np.testing.assert_allclose(reply.as_numpy("SCORES"), scores, rtol=1e-5)  # sums depend on the padding
    assert reply.as_numpy("TRUNCATED").tolist() == [[False]] * 3
    told = reply.get_response()
    assert (told.id, told.model_name, told.model_version) == ("42", INTENT, "1")
    assert told.parameters["tokens"].int64_param == classified.usage.tokens
    assert told.parameters["energy_joules"].double_param > 0
    assert told.parameters["energy_source"].string_param == "modelled"

    only = [triton.InferRequestedOutput("ENTITIES")]
    reply = client.infer(ENTITY, texts(*TEXTS), outputs=only, compression_algorithm="gzip")
    assert [one.name for one in reply.get_response().outputs] == ["ENTITIES"]
    entities = [json.loads(row[0]) for row in reply.as_numpy("ENTITIES")]
    assert [[(e["label"], e["text"], e["start"], e["end"]) for e in found] for found in entities] == [
        [(e.label, e.text, e.start, e.end) for e in result.entities] for result in extracted
    ]
    assert [e["text"] for e in entities[2]] == ["alice smith", "new york"]


@pytest.mark.parametrize(
    ("model", "values", "options", "status", "told"),
    [
        ("absent", ["a"], {}, "NOT_FOUND", f"model 'absent' is not served here; available: {INTENT} "),
        (
            INTENT,
            ["a"],
            {"model_version": "2"},
            "NOT_FOUND",
            f"model '{INTENT} version 2' is not served here",
        ),
        (INTENT, ["a", " "], {}, "INVALID_ARGUMENT", "TEXT[1]: is empty"),
        (INTENT, ["a"] * 9, {}, "INVALID_ARGUMENT", "TEXT: has 9 texts; the limit is 8 a request"),
        (INTENT, ["alice " * 99], {}, "INVALID_ARGUMENT", "TEXT[0]: has 101 tokens; the limit is 64"),
        (ENTITY, ["a"], {"parameters": {"top_k": 1}}, "INVALID_ARGUMENT", "parameters[top_k]: is unknown"),
        (ENTITY, ["a"], {"priority": 3}, "INVALID_ARGUMENT", "parameters[priority]: is 3"),
        # Passed before it was sent: an answer may come sooner than a client looks at its clock again.
        (ENTITY, ["a"], {"client_timeout": -1.0}, "DEADLINE_EXCEEDED", ""),
        (ENTITY, ["a"], {"timeout": 1}, "DEADLINE_EXCEEDED", "nothing was computed"),
    ],
)
def test_errors_are_those_a_client_expects(
    client: triton.InferenceServerClient,
    model: str,
    values: list[str],
    options: dict[str, Any],
    status: str,
    told: str,
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, texts(*values), **options)
    assert raised.value.status() == f"StatusCode.{status}"
    assert told in raised.value.message()
    assert client.infer(INTENT, texts("hello")).as_numpy("LABELS").size == 1


def test_what_is_not_served_is_unimplemented(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.get_trace_settings()
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_who_has_no_key_changes_no_model(client: triton.InferenceServerClient) -> None:
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as raised:
            change(INTENT)
        assert raised.value.status() == "StatusCode.PERMISSION_DENIED"


def test_requests_in_flight_side_by_side(client: triton.InferenceServerClient) -> None:
    replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(20):
        client.async_infer(
            INTENT, texts("hello"), lambda result, error: replies.put((result, error)), request_id=str(number)
        )
    answered = [replies.get(timeout=30) for _ in range(20)]
    assert [error for _, error in answered if error] == []
    assert {result.get_response().id for result, _ in answered} == {str(number) for number in range(20)}


def test_a_stream_answers_in_order(client: triton.InferenceServerClient) -> None:
    replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for number in range(10):
        model = "absent" if number == 4 else ENTITY
        client.async_stream_infer(
            model, texts("alice"), request_id=str(number), enable_empty_final_response=True
        )
    answered = [replies.get(timeout=30) for _ in range(10)]
    client.stop_stream()
    assert "'absent' is not served here" in answered.pop(4)[1].message()
    assert [result.get_response().id for result, _ in answered] == [str(n) for n in range(10) if n != 4]
    assert all(json.loads(result.as_numpy("ENTITIES")[0, 0])[0]["text"] == "alice" for result, _ in answered)
    assert answered[0][0].get_response().parameters["triton_final_response"].bool_param


async def test_the_aio_client_does_the_same(replica: ReplicaProcess) -> None:
    async with triton_aio.InferenceServerClient(replica.target) as client:
        assert await client.is_model_ready(INTENT)
        replies = await asyncio.gather(
            *(client.infer(INTENT, texts("hello", of=triton_aio), request_id=str(n)) for n in range(8))
        )
        assert [reply.get_response().id for reply in replies] == [str(number) for number in range(8)]
        with pytest.raises(InferenceServerException, match="TEXT: is empty"):
            await client.infer(INTENT, [triton_aio.InferInput("TEXT", [0, 1], "BYTES")])

        async def asked() -> AsyncIterator[dict[str, Any]]:
            for number in range(4):
                inputs = texts("alice", of=triton_aio)
                yield {"model_name": ENTITY, "inputs": inputs, "request_id": str(number)}

        streamed = [one async for one in client.stream_infer(asked())]
        assert [result.get_response().id for result, _ in streamed] == ["0", "1", "2", "3"]


def test_bare_stubs_with_typed_contents_get_typed_contents(replica: ReplicaProcess) -> None:
    """As KServe's clients send them; and with the shape [n] of a tensor that has no second dimension."""
    contents = service_pb2.InferTensorContents(bytes_contents=[b"alice", b"hello"])
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="TEXT", datatype="BYTES", shape=[2], contents=contents
    )
    request = service_pb2.ModelInferRequest(model_name=INTENT, id="k", inputs=[tensor])
    request.parameters["min_score"].string_param = "0"  # the protocol's core has no number with a fraction
    with grpc.insecure_channel(replica.target) as channel:
        reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert not reply.raw_output_contents
    labels, scores, truncated = reply.outputs
    assert len(labels.contents.bytes_contents) == len(scores.contents.fp32_contents) == 2
    assert truncated.contents.bool_contents == [False, False]
    assert (reply.id, list(labels.shape)) == ("k", [2, 1])


def test_statistics_count_what_was_asked(client: triton.InferenceServerClient) -> None:
    def told() -> Any:
        return client.get_inference_statistics(ENTITY).model_stats[0]

    before = told()
    for _ in range(3):
        client.infer(ENTITY, texts("alice", "hello"))
    after = told()
    assert after.inference_count - before.inference_count == 6
    assert after.inference_stats.success.count - before.inference_stats.success.count == 3
    for duration in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(after.inference_stats, duration).ns > getattr(before.inference_stats, duration).ns
    assert len(client.get_inference_statistics().model_stats) == 2


def test_statistics_tell_cache_hits_from_inferences(tiny_model: Path) -> None:
    with (
        ReplicaProcess(tiny_model, "--cache-bytes", "1048576", "--meter", "modelled") as replica,
        triton.InferenceServerClient(replica.target) as client,
    ):
        for _ in range(3):
            client.infer(INTENT, texts("hello"))
        client.infer(INTENT, texts("hello"), parameters={"no_cache": True})
        client.infer(INTENT, texts("hello", "where is my card"))
        told = client.get_inference_statistics(INTENT).model_stats[0]
    stats = told.inference_stats
    assert (stats.cache_hit.count, stats.cache_miss.count, stats.success.count) == (2, 2, 5)
    assert stats.cache_hit.ns > 0
    assert stats.cache_miss.ns > 0
    assert (stats.compute_infer.count, told.inference_count) == (3, 3)


def test_health_and_reflection_know_the_service(replica: ReplicaProcess) -> None:
    with grpc.insecure_channel(replica.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest
        questions = [ask(list_services=""), ask(file_containing_symbol=SERVICE)]
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(questions), timeout=5)
    assert SERVICE in {service.name for service in listed.list_services_response.service}
    (file,) = described.file_descriptor_response.file_descriptor_proto
    (service,) = FileDescriptorProto.FromString(file).service
    assert "ModelInfer" in {method.name for method in service.method}


def test_a_draining_replica_is_not_ready(tiny_model: Path) -> None:
    with ReplicaProcess(tiny_model, "--drain-delay", "30s", "--meter", "modelled") as replica:
        with triton.InferenceServerClient(replica.target) as client:
            assert client.is_server_ready()
            replica.terminate()
            for _ in range(1000):
                if not client.is_server_ready():
                    break
                time.sleep(0.01)
            assert not client.is_server_ready()
            assert client.is_server_live()
            assert not client.is_model_ready(INTENT)
            assert client.infer(INTENT, texts("hello")).as_numpy("LABELS").size == 1
        time.sleep(ONE_SIGNAL_S)
        replica.terminate()  # the second signal ends it at once
        replica.wait()


@pytest.mark.parametrize(
    "mode",
    [["-b", "2", "--concurrency-range", "4"], ["--async", "--streaming", "--request-rate-range", "100"]],
    ids=["unary", "stream"],
)
def test_perf_analyzer_measures_a_replica(replica: ReplicaProcess, tmp_path: Path, mode: list[str]) -> None:
    binary = PERF_ANALYZER / "bin" / "perf_analyzer"
    assert binary.exists(), "it is not installed: run `make perf-analyzer`"
    inputs, report = tmp_path / "inputs.json", tmp_path / "report.csv"
    inputs.write_text(json.dumps({"data": [{"TEXT": [text]} for text in TEXTS]}))
    windows = ["--measurement-mode", "count_windows", "--measurement-request-count", "40", "-s", "1000"]
    files = ["--input-data", str(inputs), "-f", str(report), "--verbose-csv"]
    command = [binary, "-m", ENTITY, "-i", "grpc", "-u", replica.target, *windows, *files, *mode]
    libraries = {"LD_LIBRARY_PATH": str(PERF_ANALYZER / "nvidia/cuda_runtime/lib")}
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | libraries, timeout=90)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with report.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert float(row["Inferences/Second"]) > 0
    assert float(row["Server Compute Infer"]) > 0, "it reads the replica's statistics"
    assert "failed" not in ran.stdout.lower(), ran.stdout
    assert "Traceback" not in replica.stderr
