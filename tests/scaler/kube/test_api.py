"""The way to the API server: what is sent, what is not, and what a user without the extra is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from kubernetes.aio.config import ConfigException

from scaler.kube.api import KubeApi, Object, Selection, path
from scaler.kube.errors import ConflictError, DeposedError, NotFoundError, ThrottledError, UnavailableError
from scaler.kube.permissions import DEPLOYMENTS, LEASES, PODS, POLICY_STATUS, SCALED_OBJECTS, Resource
from tests.kube_api.samples import deployment, lease
from tests.kube_api.stand_in import KubeApi as StandIn

DEPLOYMENT_SCALE = Resource("apps", "v1", "deployments/scale")


@pytest.fixture
async def failures() -> list[tuple[str, int]]:
    return []


@pytest.fixture
async def api(kube_api: StandIn, failures: list[tuple[str, int]]) -> AsyncIterator[KubeApi]:
    connected = await KubeApi.connect(
        kube_api.kubeconfig(), failed=lambda verb, error: failures.append((verb, error.status))
    )
    yield connected
    await connected.close()


def test_paths_are_those_of_the_api() -> None:
    assert path(PODS) == "/api/v1/pods"
    assert path(POLICY_STATUS, "a", "b") == ("/apis/minwatt.dev/v1alpha1/namespaces/a/powerpolicies/b/status")
    assert path(PODS, "a/../b", "c?d") == "/api/v1/namespaces/a%2F..%2Fb/pods/c%3Fd"


async def test_one_who_may_not_act_sends_no_write_and_reads_on(api: KubeApi, kube_api: StandIn) -> None:
    def deposed() -> None:
        raise DeposedError("not the leader")

    fenced = api.fenced(deposed)
    written = lease("2026-11-22T00:00:00.000000Z")
    with pytest.raises(DeposedError):
        await fenced.create(LEASES, "default", written)
    assert not [each for each in kube_api.log if each.verb == "create"]
    await api.create(LEASES, "default", written)
    held = await fenced.get(LEASES, "default", "minwatt")
    for call in (
        fenced.replace(LEASES, "default", "minwatt", held),
        fenced.merge(Resource("events.k8s.io", "v1", "events"), "default", "x", {}),
    ):
        with pytest.raises(DeposedError):
            await call
    assert len(kube_api.writes()) == len([each for each in kube_api.log if each.verb == "create"])


async def test_nothing_is_replaced_without_the_version_that_was_read(api: KubeApi) -> None:
    with pytest.raises(ValueError, match="without a resourceVersion"):
        await api.replace(LEASES, "default", "minwatt", lease("2026-11-22T00:00:00.000000Z"))


async def test_what_the_server_refuses_has_its_type_and_is_counted(
    api: KubeApi, kube_api: StandIn, failures: list[tuple[str, int]]
) -> None:
    held = await api.create(LEASES, "default", lease("2026-11-22T00:00:00.000000Z"))
    await api.replace(LEASES, "default", "minwatt", {**held, "spec": {**held["spec"], "leaseTransitions": 1}})
    with pytest.raises(ConflictError, match="has been modified"):
        await api.replace(LEASES, "default", "minwatt", held)
    with pytest.raises(NotFoundError):
        await api.get(DEPLOYMENT_SCALE, "default", "nope")
    with pytest.raises(NotFoundError):  # KEDA is not there
        await api.list_all(Selection(SCALED_OBJECTS, "default"))
    kube_api.faults.answer(429, retry_after_s=7)
    with pytest.raises(ThrottledError) as throttled:
        await api.list_all(Selection(PODS))
    assert throttled.value.retry_after_s == 7.0
    kube_api.faults.drop(times=2)  # aiohttp asks once more where a connection that was kept is closed
    with pytest.raises(UnavailableError):
        await api.list_all(Selection(PODS))
    kube_api.stop()
    with pytest.raises(UnavailableError):
        await api.list_all(Selection(PODS))
    assert ("update", 409) in failures
    assert ("list", 0) in failures


async def test_a_token_that_can_t_be_read_now_is_as_a_server_that_is_away() -> None:
    class WithoutToken:
        async def param_serialize(self, *_: object, **__: object) -> None:
            raise ConfigException("Token file exists but empty.")

    told: list[int] = []
    api = KubeApi(WithoutToken(), lambda _, error: told.append(error.status))
    with pytest.raises(UnavailableError, match="exists but empty"):
        await api.get(LEASES, "default", "minwatt")
    assert told == [0]


async def test_of_each_object_what_is_asked_for_is_handed_on(api: KubeApi, kube_api: StandIn) -> None:
    def lean(found: Object) -> Object:
        return {"metadata": {"name": found["metadata"].get("name")}}

    made = kube_api.create(deployment())
    name = made["metadata"]["name"]
    deployments = Selection(DEPLOYMENTS, "default", keep=lean)
    listed = await api.list_all(deployments)
    assert listed.items == ({"metadata": {"name": name}},)
    events = api.watch(deployments, listed.version, 5)
    assert await anext(events) == {}
    kube_api.patch("deployments", "default", name, {"metadata": {"labels": {"a": "b"}}})
    assert await anext(events) == {"type": "MODIFIED", "object": {"metadata": {"name": name}}}
    await events.aclose()


def test_without_the_extra_it_is_one_line() -> None:
    """As on a machine where the package was never installed."""
    hidden = "import sys; sys.modules['kubernetes'] = None; from minwatt.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", hidden, "scale", "--kubernetes", "--lease-namespace", "a"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'minwatt[k8s]'" in done.stderr
