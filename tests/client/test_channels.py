"""Targets, keys and certificates, as an application gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import minwatt
from minwatt.channels import CONNECTIONS, Connecting, connecting

KEY = "mw_Zm9vYmFy"


def of(
    target: str,
    connections: int | None = None,
    tls: minwatt.Tls | None = None,
    api_key: str | None = None,
    *,
    allow: bool = False,
) -> Connecting:
    return connecting(target, connections, tls, api_key, allow_plaintext_key=allow)


@pytest.mark.parametrize(
    ("target", "connections", "expected"),
    [
        ("127.0.0.1:8500", None, ("127.0.0.1:8500",) * CONNECTIONS),
        ("127.0.0.1:8500", 1, ("127.0.0.1:8500",)),
        ("a:1, b:2", None, ("a:1", "b:2")),
        ("a:1,b:2", 2, ("a:1", "b:2", "a:1", "b:2")),
        ("dns:///headless:8500", None, ("dns:///headless:8500",)),
        ("unix:/run/minwatt.sock", 1, ("unix:/run/minwatt.sock",)),
    ],
)
def test_each_target_gets_its_connections(
    target: str, connections: int | None, expected: tuple[str, ...]
) -> None:
    assert of(target, connections).targets == expected


@pytest.mark.parametrize("target", ["", "host", "a:1,,b:2", ","])
def test_what_is_no_target_is_named(target: str) -> None:
    with pytest.raises(ValueError, match=r"target = .*: allowed: HOST:PORT"):
        of(target)


def test_no_connections_are_not_allowed() -> None:
    with pytest.raises(ValueError, match="connections = 0: allowed: 1 or more"):
        of("a:1", 0)


def test_health_decides_only_where_there_is_a_choice() -> None:
    def config(target: str) -> dict[str, object]:
        return dict(json.loads(dict(of(target).options)["grpc.service_config"]))

    assert "healthCheckConfig" not in config("127.0.0.1:8500")
    for target in ("a:1,b:2", "dns:///headless:8500"):
        assert config(target)["healthCheckConfig"] == {"serviceName": ""}


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:1",
        "localhost:1",
        "[::1]:1",
        "unix:/run/x:1",
        "127.0.0.1:1,localhost:2",
        "dns:///localhost:1",
        "ipv4:127.0.0.9:1",
    ],
)
def test_a_key_may_travel_within_the_machine(target: str) -> None:
    assert of(target, api_key=KEY).metadata == (("authorization", f"Bearer {KEY}"),)


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:1",
        "headless:1",
        "dns:///headless:1",
        "127.0.0.1:1,b:2",
        "127.0.0.1.example.com:1",
        "[::2]:1",
    ],
)
def test_a_key_does_not_leave_the_machine_unencrypted(target: str) -> None:
    with pytest.raises(ValueError, match="api_key: would travel unencrypted") as raised:
        of(target, api_key=KEY)
    assert KEY not in str(raised.value)
    assert of(target, api_key=KEY, allow=True).metadata
    assert of(target, api_key=KEY, tls=minwatt.Tls()).metadata


@pytest.mark.parametrize("key", ["", "two words", "naïve", "line\n"])
def test_a_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(ValueError, match="api_key: allowed: visible ASCII") as raised:
        of("127.0.0.1:1", api_key=key)
    assert not key or key not in str(raised.value)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(of("127.0.0.1:1", api_key=KEY))


def test_certificates_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tls: ca = '.*nothing.pem': No such file"):
        of("a:1", tls=minwatt.Tls(ca=tmp_path / "nothing.pem"))
    with pytest.raises(ValueError, match="tls: cert and key are given together"):
        minwatt.Tls(cert="client.pem")
