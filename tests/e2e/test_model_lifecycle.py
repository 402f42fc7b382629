"""Models that come and go in a real replica: nothing fails, and what is wrong with one harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
import yaml
from tritonclient.utils import InferenceServerException

import minwatt
from minwatt.cli import main
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, OperatingPoint, ReplicaReport
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from service.keys import new_key
from tests.e2e.replica_process import ReplicaProcess
from tests.e2e.test_serve_fleet import Scaler, free_port
from tests.eventually import eventually
from tests.service.lifecycle.damage import DAMAGES
from tests.tiny_model import write_tiny_model

pytestmark = pytest.mark.both_modes

RELOADED = 'minwatt_model_replacements_total{model="tiny-text"}'
REFUSED = 'minwatt_model_reload_failures_total{model="tiny-text"}'
NO_RETRIES = [("grpc.enable_retries", 0)]
RELOADS = 5


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny-text", variants=("int8", "fp16"))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(happened):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)


async def test_no_request_fails_while_models_are_reloaded(model: Path) -> None:
    """Unary calls and a stream, without a retry, while the files change under them again and again."""
    with ReplicaProcess(model) as replica:
        async with grpc.aio.insecure_channel(replica.target, NO_RETRIES) as channel:
            stub = TextInferenceStub(channel)
            done = asyncio.Event()
            seen: set[str] = set()

            async def unary() -> None:
                while not done.is_set():
                    request = pb.ClassifyRequest(texts=["where is my card", "hello"])
                    reply = await stub.Classify(request, timeout=30)
                    assert len(reply.results) == 2
                    seen.add(reply.model.version)

            async def stream() -> int:
                call = stub.ClassifyStream()
                answered = 0
                while not done.is_set():
                    request = pb.ClassifyRequest(texts=["hello"])
                    await call.write(pb.ClassifyStreamRequest(id="one", request=request))
                    reply = await call.read()
                    assert not reply.HasField("error"), reply.error
                    answered += 1
                await call.done_writing()
                return answered

            load = [asyncio.create_task(unary()) for _ in range(8)]
            streaming = asyncio.create_task(stream())
            for count in range(1, RELOADS + 1):
                write_tiny_model(model, version=f"v{count}", variants=("int8", "fp16"), seed=count)
                replica.reload()
                await until(lambda count=count: replica.metric(RELOADED) == count and f"v{count}" in seen)
            done.set()
            await asyncio.gather(*load)
            assert seen == {"1", *(f"v{count}" for count in range(1, RELOADS + 1))}
            assert await streaming > 0
        assert replica.metric(REFUSED) == 0
        assert replica.metric('minwatt_refusals_total{reason="failed"}') == 0
        replica.terminate()
        assert await asyncio.to_thread(replica.wait) == 0
    assert "Traceback" not in replica.stderr


async def test_every_wrong_model_is_refused_in_turn_and_the_old_one_serves_on(model: Path) -> None:
    with ReplicaProcess(model) as replica, minwatt.Client(replica.target) as client:
        before = client.classify(["where is my card"], top_k=5)
        for count, damage in enumerate(DAMAGES, start=1):
            write_tiny_model(model, version=damage.__name__, variants=("int8", "fp16"))
            damage(model)
            replica.reload()
            await until(lambda count=count: replica.metric(REFUSED) == count)
            assert client.classify(["where is my card"], top_k=5).results == before.results
            assert client.classify(["hello"]).model == minwatt.Model("tiny-text", "1", "int8")
        write_tiny_model(model, version="good", variants=("int8", "fp16"))
        replica.reload()
        await until(lambda: replica.metric(RELOADED) == 1)
        assert client.classify(["hello"]).model.version == "good"
        assert "Traceback" not in replica.stderr
        for words in DAMAGES.values():
            assert words in replica.stderr
        assert "tiny-text 1 int8 keeps serving" in replica.stderr


def test_two_models_in_one_replica(model: Path, tmp_path: Path) -> None:
    second = write_tiny_model(tmp_path / "second", name="second", version="7", seed=99)
    with ReplicaProcess(model, "--model", str(second)) as replica:
        assert replica.model == "tiny-text 1 int8, second 7 int8"
        with (
            minwatt.Client(replica.target, model="second") as asks_second,
            minwatt.Client(replica.target) as asks_none,
        ):
            one, other = asks_none.classify(["hello"]), asks_second.classify(["hello"])
            assert (one.model.name, other.model.name) == ("tiny-text", "second")
            assert one[0].score != pytest.approx(other[0].score)
            with (
                pytest.raises(minwatt.RequestFailed, match="available: tiny-text, second"),
                minwatt.Client(replica.target, model="third") as asks_third,
            ):
                asks_third.classify(["hello"])
        assert replica.metric('minwatt_model_info{model="second",variant="int8",version="7"}') == 1


async def test_an_operating_point_switches_the_variant(model: Path, front_ends: int) -> None:
    """The scaler is told of the new variant, and of its point being in force, once requests meet it.

    Front ends follow within a moment: what one of them had under way ends with the old one.
    """
    port = free_port()
    scaler = Scaler(OperatingPoint(version=7, variant="fp16", max_batch_texts=3))
    server = await scaler.listen(port)
    process = ReplicaProcess(model, "--scaler", f"127.0.0.1:{port}")
    await asyncio.to_thread(process.ready)
    with process as replica:
        await scaler.until(lambda: any(report.variant == "fp16" for report in scaler.reports))
        async with minwatt.AsyncClient(replica.target) as client:

            async def answers_with_it() -> bool:
                return (await client.classify(["hello"])).model.variant == "fp16"

            if front_ends:
                await eventually(answers_with_it)
            else:
                assert await answers_with_it()
        assert scaler.reports[-1].state == REPLICA_STATE_READY
    await server.stop(None)
    for report in scaler.reports:
        in_force = report.operating_point_version == 7
        assert in_force == (report.variant == "fp16"), report


class Switching(Scaler):
    """Tells a replica the newest point at its next report."""

    async def Join(  # noqa: N802 - the RPC's name
        self,
        reports: AsyncIterator[ReplicaReport],
        context: grpc.aio.ServicerContext[ReplicaReport, OperatingPoint],
    ) -> AsyncIterator[OperatingPoint]:
        told = 0
        async for report in reports:
            self.reports.append(report)
            await self.tell()
            if self.point.version > told:
                told = self.point.version
                yield self.point


async def test_no_request_fails_while_the_operating_point_switches_the_variant(model: Path) -> None:
    """There and back under load, without a retry; each answer is the one that its variant alone gives."""
    port = free_port()
    scaler = Switching(OperatingPoint(version=1, variant="int8"))
    server = await scaler.listen(port)
    process = ReplicaProcess(model, "--scaler", f"127.0.0.1:{port}")
    await asyncio.to_thread(process.ready)
    with process as replica:
        async with grpc.aio.insecure_channel(replica.target, NO_RETRIES) as channel:
            stub = TextInferenceStub(channel)
            done = asyncio.Event()
            answers: dict[str, list[float]] = {}

            async def unary() -> int:
                answered = 0
                while not done.is_set():
                    reply = await stub.Classify(pb.ClassifyRequest(texts=["where is my card"]), timeout=30)
                    answers.setdefault(reply.model.variant, []).append(reply.results[0].labels[0].score)
                    answered += 1
                return answered

            load = [asyncio.create_task(unary()) for _ in range(4)]
            for version, variant in enumerate(("fp16", "int8"), start=2):
                scaler.point = OperatingPoint(version=version, variant=variant)
                await scaler.until(
                    lambda version=version: any(
                        report.operating_point_version == version for report in scaler.reports
                    )
                )
                seen = len(answers.get(variant, ()))
                await until(lambda variant=variant, seen=seen: len(answers.get(variant, ())) > seen)
            done.set()
            assert sum(await asyncio.gather(*load)) == sum(map(len, answers.values()))
        assert replica.metric(RELOADED) == 2
        assert replica.metric(REFUSED) == 0
        assert replica.metric('minwatt_refusals_total{reason="failed"}') == 0
        one, other = answers["int8"], answers["fp16"]
        assert one == pytest.approx([one[0]] * len(one), abs=1e-5)
        assert other == pytest.approx([other[0]] * len(other), abs=1e-5)
        assert one[0] != pytest.approx(other[0], abs=1e-5)
    await server.stop(None)


def test_admins_load_and_unload_by_triton_s_calls(model: Path, tmp_path: Path) -> None:
    second = write_tiny_model(tmp_path / "second", name="second", variants=("int8", "fp16"), seed=50)
    (key, admin), (other_key, other) = new_key(), new_key()
    tenants = [
        {"name": name, "roles": roles, "keys": [{"id": stored.id, "sha256": stored.sha256.hex()}]}
        for name, roles, stored in (("ops", ["infer", "admin"], admin), ("app", ["infer"], other))
    ]
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": tenants}))
    ops, app = ({"authorization": f"Bearer {one}"} for one in (key, other_key))
    flags = ("--model", str(second), "--tenants", str(file))
    with (
        ReplicaProcess(model, *flags) as replica,
        triton.InferenceServerClient(replica.target) as client,
    ):

        def states() -> dict[str, str]:
            index = client.get_model_repository_index(as_json=True, headers=ops)
            return {one["name"]: one["state"] for one in index["models"]}

        with pytest.raises(InferenceServerException) as raised:
            client.unload_model("second.intent", headers=app)
        assert raised.value.status() == "StatusCode.PERMISSION_DENIED"
        assert states()["second.intent"] == "READY"

        client.unload_model("second.intent", headers=ops)
        assert states() == {
            "tiny-text.intent": "READY",
            "tiny-text.entity": "READY",
            "second": "UNAVAILABLE",
        }
        assert not client.is_model_ready("second.intent", headers=app)
        client.load_model("second", headers=ops)
        assert client.is_model_ready("second.intent", headers=app)

        write_tiny_model(model, version="2", variants=("int8", "fp16"))
        client.load_model("tiny-text.intent", headers=ops)
        assert client.get_model_metadata("tiny-text.intent", headers=app).versions == ["2"]
        (model / "int8" / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(InferenceServerException, match="wrong or damaged file") as raised:
            client.load_model("tiny-text", headers=ops)
        assert raised.value.status() == "StatusCode.FAILED_PRECONDITION"
        assert client.is_model_ready("tiny-text.intent", "2", headers=app)
        with pytest.raises(InferenceServerException, match="is the default"):
            client.unload_model("tiny-text", headers=ops)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--memory-limit", "1Mi"], "memory-limit = 1Mi: model 'tiny-text' needs about "),
        (["--memory-limit", "1MB"], "options: memory-limit = '1MB': allowed: bytes such as 400Mi"),
        (["--model", "twin"], "model = '{twin}': is named 'tiny-text' as {model} is"),
        (["--model", "absent"], "absent/model.yaml: can't be read"),
    ],
)
def test_models_that_can_not_be_served_are_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    twin = write_tiny_model(tmp_path / "twin")
    flags = [str(twin) if flag == "twin" else flag for flag in flags]
    with pytest.raises(SystemExit) as left:
        main(["serve", "--model", str(model), *flags, "--port", "0", "--metrics-port", "0"])
    assert left.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("minwatt serve: " + line.format(twin=twin, model=model))
