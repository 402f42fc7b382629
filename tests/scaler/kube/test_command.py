"""What a user may get wrong, the port that is probed, and the table of what may be asked."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from scaler.bus_opening import BusOptions
from scaler.kube.api import KubeApi, Selection
from scaler.kube.command import KubeOptions, run_kube
from scaler.kube.errors import DeniedError
from scaler.kube.health import Health
from scaler.kube.permissions import (
    AUTOSCALERS,
    EVENTS,
    PERMISSIONS,
    PODS,
    NotInTableError,
    Resource,
    check,
)
from tests.kube_api.stand_in import KubeApi as StandIn


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"namespaces": ("In Ference",), "lease_namespace": "a"}, "--namespace = 'In Ference'"),
        ({"lease_namespace": "a/b"}, "--lease-namespace = 'a/b'"),
        ({"lease_namespace": "a", "lease_name": "Lease!"}, "--lease-name = 'Lease!'"),
        ({"lease_namespace": "a", "identity": "größer"}, "--identity = 'größer'"),
        ({"lease_namespace": "a", "profiles": Path("/nowhere")}, "--profiles = '/nowhere'"),
        (
            {"lease_namespace": "a", "kubeconfig": Path("/nowhere")},
            "--kubeconfig = '/nowhere': .*No such file or directory",
        ),
    ],
)
async def test_a_mistake_is_one_line(
    options: dict[str, object], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made = KubeOptions(BusOptions("127.0.0.1:0"), metrics_port=0, health_port=0, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=words) as caught:
        await run_kube(made, lambda _: None, stopped=asyncio.Event())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "nobody else says anything"


async def test_a_kubeconfig_that_is_none_is_one_line(tmp_path: Path) -> None:
    for text in ("", "just words", "apiVersion: v1\nkind: Config\n", "{"):
        (tmp_path / "config").write_text(text)
        with pytest.raises(UsageError, match="no cluster to connect to") as caught:
            await KubeApi.connect(tmp_path / "config")
        assert "\n" not in str(caught.value)


NO_CERTIFICATE = base64.b64encode(b"no certificate").decode()


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        ({"certificate-authority-data": NO_CERTIFICATE}, {"token": "t"}, "no certificate"),
        ({"certificate-authority": "/nowhere"}, {"token": "t"}, "/nowhere"),
        ({}, {"client-certificate-data": NO_CERTIFICATE, "client-key-data": NO_CERTIFICATE}, "PEM"),
    ],
)
async def test_a_kubeconfig_whose_certificates_are_none_is_one_line(
    tmp_path: Path, cluster: dict[str, str], user: dict[str, str], said: str
) -> None:
    config = {
        "current-context": "a",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="no cluster to connect to") as caught:
        await KubeApi.connect(tmp_path / "config")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


async def asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_probes_are_answered() -> None:
    ready = [False]
    health = await Health.listen("127.0.0.1", 0, lambda: ready[0])
    assert (await asked(health.port, b"GET /livez HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert b"503" in await asked(health.port, b"GET /readyz HTTP/1.1\r\n\r\n")
    ready[0] = True
    assert b"200 OK" in await asked(health.port, b"GET /readyz?verbose HTTP/1.1\r\n\r\n")
    assert b"404" in await asked(health.port, b"POST /livez HTTP/1.1\r\n\r\n")
    assert b"404" in await asked(health.port, b"\r\n")
    await health.close()


def test_what_is_not_in_the_table_is_not_asked() -> None:
    for one in PERMISSIONS:
        for verb in one.verbs:
            check(verb, one.resource)
    custom = Resource("example.com", "v1", "models")
    check("list", custom, target=True)
    check("update", Resource("example.com", "v1", "models/scale"), target=True)
    for verb, resource, target in (
        ("delete", PODS, False),
        ("update", AUTOSCALERS, False),
        ("list", custom, False),
        ("update", custom, True),
        ("patch", Resource("example.com", "v1", "models/scale"), True),
    ):
        with pytest.raises(NotInTableError):
            check(verb, resource, target=target)


class _NoClient:
    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the server was asked: {name}")


async def test_a_call_that_no_role_is_written_for_never_leaves() -> None:
    api = KubeApi(_NoClient(), lambda verb, error: None)
    with pytest.raises(NotInTableError):
        await api.create(PODS, "ns", {})
    with pytest.raises(NotInTableError):
        await api.get(EVENTS, "ns", "x")
    with pytest.raises(NotInTableError):
        await api.list_all(Selection(Resource("", "v1", "secrets")))


async def test_in_a_pod_its_service_account_is_used(
    kube_api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    kube_api.apply({**account, "metadata": {"name": "minwatt", "namespace": "default"}})
    (tmp_path / "token").write_text(kube_api.token("default", "minwatt"))
    (tmp_path / "ca.crt").write_bytes(kube_api.authority_pem)
    host, _, port = kube_api.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    for name, file in (("SERVICE_TOKEN_FILENAME", "token"), ("SERVICE_CERT_FILENAME", "ca.crt")):
        monkeypatch.setattr(f"kubernetes.aio.config.incluster_config.{name}", str(tmp_path / file))
    api = await KubeApi.connect()
    try:
        with pytest.raises(DeniedError, match='default:minwatt" cannot list resource "pods"'):
            await api.list_all(Selection(PODS))
    finally:
        await api.close()
