"""A controller with a policy that is scaled from outside, from the annotation to what KEDA is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest

from scaler.kube.desired_replicas import BELIEVED_S
from scaler.kube.external_scaler import ListenOptions
from scaler.kube.keda import externalscaler_pb2 as pb
from scaler.kube.keda import externalscaler_pb2_grpc as pb_grpc
from tests.kube_api.jumping_loop import JumpingLoop
from tests.scaler.kube.controlled import NAMESPACE, PATIENCE_S, Scenario, play, workload
from tests.scaler.kube.made_objects import policy_object

Stage = Callable[[Callable[[Scenario], Coroutine[Any, Any, None]]], None]
HERE = ListenOptions("127.0.0.1:0")
FLEET = f"{NAMESPACE}/support-text"
BUSY_RPS = 600.0
EXTERNAL = {"minwatt.dev/replicas": "external"}
ASKING = pb.GetMetricsRequest(
    scaledObjectRef=pb.ScaledObjectRef(
        name="so", namespace=NAMESPACE, scalerMetadata={"policy": "support-text"}
    )
)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return lambda story: play(tmp_path, monkeypatch, story)


def policy(**annotations: str) -> dict[str, Any]:
    made = policy_object(annotations=annotations, replicas={"min": 2, "max": 6})
    for server_made in ("uid", "generation", "creationTimestamp", "resourceVersion"):
        del made["metadata"][server_made]
    return made


def keda_s_autoscaler() -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support-text"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-support-text", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 6},
    }


@asynccontextmanager
async def asked(case: Scenario) -> AsyncIterator[Callable[[], Coroutine[Any, Any, float | str]]]:
    """The desired replicas as KEDA hears them; the status' name where it hears none."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    (line,) = [line for line in case.said if "external scaler" in line][-1:]
    async with grpc.aio.insecure_channel(line.rpartition(" ")[2]) as channel:
        stub: Any = pb_grpc.ExternalScalerStub(channel)

        async def ask() -> float | str:
            try:
                with loop.standing():
                    (value,) = (await stub.GetMetrics(ASKING)).metricValues
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return float(value.metricValueFloat)

        yield ask


def scale_by_another(case: Scenario, replicas: int) -> None:
    """What the HPA does."""
    case.api.apply(workload(replicas=replicas))


def annotate(case: Scenario, **annotations: str | None) -> None:
    """None takes one away."""
    change = {f"minwatt.dev/{name}": value for name, value in annotations.items()}
    case.api.patch("powerpolicies", NAMESPACE, "support-text", {"metadata": {"annotations": change}})


def scales_written(case: Scenario) -> list[str]:
    return [one.resource for one in case.api.writes() if one.resource.endswith("/scale")]


async def metrics_page(case: Scenario, identity: str = "one") -> str:
    (line,) = [line for line in case.said if f"{identity}: ready" in line]
    url = next(word for word in line.split() if word.startswith("http://"))
    return await asyncio.to_thread(lambda: urlopen(url, timeout=10).read().decode())


async def comes(ask: Callable[[], Coroutine[Any, Any, float | str]], *wanted: float | str) -> float | str:
    """Waits for any other answer than the present one; where answers are named, for one of those."""
    loop = asyncio.get_running_loop()
    first, end_s = await ask(), loop.time() + PATIENCE_S
    heard = first
    while (heard not in wanted) if wanted else (heard == first):
        assert loop.time() < end_s, f"always {heard}"
        await asyncio.sleep(1)
        heard = await ask()
    return heard


def test_keda_hears_the_number_and_scales_and_the_controller_writes_no_scale(stage: Stage) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), keda_s_autoscaler(), policy(**EXTERNAL))
        async with case.control(external=HERE):
            await case.until(lambda: case.condition("Ready")[0] == "True", "ready, beside an HPA")
            async with asked(case) as ask:
                assert await comes(ask, 2.0) == 2.0
                case.hub.fleets[FLEET].rate_rps = BUSY_RPS
                wanted = await comes(ask)
                assert isinstance(wanted, float)
                assert wanted > 2
                assert case.replicas() == 2
                scale_by_another(case, int(wanted))
                await case.until(lambda: case.status()["replicas"]["current"] == wanted, "sees it")
                assert case.hub.fleets[FLEET].points, "operating points are minwatt's"
        assert not scales_written(case)

    stage(story)


def test_a_pause_holds_the_number_at_what_runs_and_without_the_annotation_there_is_none(stage: Stage) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), keda_s_autoscaler(), policy(**EXTERNAL))
        async with case.control(external=HERE):
            await case.until(lambda: case.condition("Ready")[0] == "True", "ready")
            case.hub.fleets[FLEET].rate_rps = BUSY_RPS
            async with asked(case) as ask:
                await comes(ask)
                annotate(case, paused="true")
                assert await comes(ask, 2.0) == 2.0
                scale_by_another(case, 3)
                assert await comes(ask, 3.0) == 3.0
                annotate(case, paused=None, replicas=None)
                assert await comes(ask, "UNAVAILABLE") == "UNAVAILABLE"
                await case.until(
                    lambda: case.condition("Ready") == ("False", "OtherAutoscaler"), "steps back"
                )
        assert not scales_written(case)

    stage(story)


def test_a_copy_that_may_not_act_any_more_has_no_number_to_give(stage: Stage) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(**EXTERNAL))
        async with case.control(external=HERE):
            await case.until(lambda: case.condition("Ready")[0] == "True", "ready")
            async with asked(case) as ask:
                assert await comes(ask, 2.0) == 2.0
                await case.api.close()
                began_s = asyncio.get_running_loop().time()
                assert await comes(ask) == "UNAVAILABLE"
                assert asyncio.get_running_loop().time() - began_s > BELIEVED_S / 2, "a blip is none"
                await case.api.open()
                assert await comes(ask, 2.0) == 2.0
            page = ""
            while "minwatt_scaler_leader 1.0" not in page:  # on the controller's next look
                await asyncio.sleep(0.5)
                page = await metrics_page(case)
        assert 'minwatt_scaler_api_errors_total{code="none",verb="' in page
        desired = f'minwatt_scaler_replicas{{namespace="{NAMESPACE}",policy="support-text",state="desired"}}'
        assert f"{desired} 2.0" in page

    stage(story)


def test_a_follower_shows_no_policy_s_metrics(stage: Stage) -> None:
    """An HPA adds up what it is given: two copies with a number each would be twice the number."""

    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy(**EXTERNAL))
        async with case.control("one"):
            await case.until(lambda: case.condition("Ready")[0] == "True", "ready")
            async with case.control("two"):
                await asyncio.sleep(20)
                leads, follows = await metrics_page(case, "one"), await metrics_page(case, "two")
        assert "minwatt_scaler_leader 1.0" in leads
        assert 'policy="support-text"' in leads
        assert "minwatt_scaler_leader 0.0" in follows
        assert "policy=" not in follows

    stage(story)
