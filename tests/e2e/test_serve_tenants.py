"""A real replica with a file of tenants, and grpcio's stock client."""

from __future__ import annotations

import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from service.keys import StoredKey, new_key
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

HELLO = pb.ClassifyRequest(texts=["hello"])


def write(path: Path, stored: StoredKey, quota: dict[str, object]) -> None:
    tenant = {"name": "search", "keys": [{"id": stored.id, "sha256": stored.sha256.hex()}], "quota": quota}
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"tenants": [tenant]}))
    os.replace(fresh, path)


def error_of(stub: Any, **shown: Any) -> grpc.RpcError:
    try:
        stub.Classify(HELLO, timeout=30, **shown)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was answered")


def until_it_is(expected: set[grpc.StatusCode], stub: Any, **shown: Any) -> None:
    limit_s = time.monotonic() + 30
    while True:
        try:
            stub.Classify(HELLO, timeout=30, **shown)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        if code in expected:
            return
        assert time.monotonic() < limit_s, code
        time.sleep(0.1)


def test_keys_quotas_and_a_new_file(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    (key, stored), (other_key, other) = new_key(), new_key()
    write(file, stored, {"requestsPerSecond": 0.01, "burst": "100s"})
    with (
        ReplicaProcess(tiny_model, "--tenants", str(file)) as replica,
        grpc.insecure_channel(replica.target) as channel,
    ):
        stub: Any = TextInferenceStub(channel)
        shown = {"metadata": (("authorization", f"Bearer {key}"),)}
        assert stub.Classify(HELLO, timeout=30, **shown).results
        streamed = stub.ClassifyStream(
            iter([pb.ClassifyStreamRequest(id="1", request=HELLO)]), metadata=(("x-api-key", key),)
        )
        (reply,) = streamed
        assert reply.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "the stream's items count too"

        over = error_of(stub, **shown)
        assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = list(rpc_status.from_call(over).details)
        retry, failure = RetryInfo(), QuotaFailure()
        assert details[0].Unpack(retry)
        assert details[1].Unpack(failure)
        assert 50 < retry.retry_delay.ToSeconds() <= 100
        assert failure.violations[0].subject == "tenant:search"
        assert failure.violations[0].description == "requestsPerSecond: 0.01 allowed"

        for metadata in ((), (("x-api-key", other_key),)):
            assert error_of(stub, metadata=metadata).code() is grpc.StatusCode.UNAUTHENTICATED

        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection.ServerReflectionInfo(iter([asked]))
        assert listed.list_services_response.service

        statistics = channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
        with pytest.raises(grpc.RpcError) as refused:
            statistics(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert statistics(b"", timeout=30, **shown)
        assert channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=30)

        with urllib.request.urlopen(replica.metrics_url) as answer:
            metrics = answer.read().decode()
        assert 'minwatt_tenant_requests_total{outcome="ok",tenant="search"} 1.0' in metrics
        assert 'minwatt_tenant_requests_total{outcome="quota",tenant="search"} 2.0' in metrics
        assert 'minwatt_refusals_total{reason="identity"} 2.0' in metrics

        write(file, other, {})
        until_it_is({grpc.StatusCode.OK}, stub, metadata=(("x-api-key", other_key),))
        assert error_of(stub, **shown).code() is grpc.StatusCode.UNAUTHENTICATED
        file.write_text("tenants: [")
        limit_s = time.monotonic() + 60
        while "stay in force" not in replica.stderr:
            assert time.monotonic() < limit_s
            time.sleep(0.05)
        assert stub.Classify(HELLO, timeout=30, metadata=(("x-api-key", other_key),)).results
        replica.terminate()
        assert replica.wait() == 0
        assert key not in replica.stderr
        assert other_key not in replica.stderr


def test_a_bad_file_ends_the_start(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text("tenants: [{name: a, weight: 0}]")
    replica = ReplicaProcess(tiny_model, "--tenants", str(file))
    try:
        assert replica.wait() == 2
    finally:
        replica.__exit__(None, None, None)
    assert replica.stderr.startswith(f"minwatt serve: {file}: tenants.0.weight = 0")
    assert "Traceback" not in replica.stderr
