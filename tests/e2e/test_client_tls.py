"""Encryption, and certificates on both sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import minwatt
from tests.e2e.certificates import Certificates
from tests.e2e.scripted_server import ScriptedServer, serving


async def both(target: str, **options: Any) -> None:
    """An answer through each client."""
    async with minwatt.AsyncClient(target, **options) as client:
        assert (await client.classify(["a"]))[0].label == "a"
        assert [one.label async for one in client.classify_many(["a", "b"])] == ["a", "b"]
    with minwatt.Client(target, **options) as blocking:
        assert (await asyncio.to_thread(blocking.classify, ["a"]))[0].label == "a"


async def test_tls(tmp_path: Path) -> None:
    certificates, server = Certificates(tmp_path), ScriptedServer()
    async with serving(server, credentials=certificates.of_server(mutual=False)):
        target = server.address.replace("127.0.0.1", "localhost")
        await both(target, tls=minwatt.Tls(ca=certificates.ca), api_key="mw_secret")
        assert {heard.metadata["authorization"] for heard in server.heard} == {"Bearer mw_secret"}
        named = minwatt.Tls(ca=certificates.ca, server_name="localhost")
        await both(server.address, tls=named)


async def test_mutual_tls(tmp_path: Path) -> None:
    certificates, server = Certificates(tmp_path), ScriptedServer()
    async with serving(server, credentials=certificates.of_server(mutual=True)):
        target = server.address.replace("127.0.0.1", "localhost")
        await both(target, tls=minwatt.Tls(ca=certificates.ca, cert=certificates.cert, key=certificates.key))
        nobody = minwatt.AsyncClient(target, tls=minwatt.Tls(ca=certificates.ca), timeout_s=1)
        async with nobody as client:
            with pytest.raises((minwatt.Unavailable, minwatt.DeadlineExceeded)):
                await client.classify(["a"])


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_a_server_that_is_not_who_it_should_be_gets_nothing(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "other").mkdir()
    certificates = Certificates(tmp_path, "localhost" if wrong == "authority" else "example.org")
    ca = Certificates(tmp_path / "other").ca if wrong == "authority" else certificates.ca
    server = ScriptedServer()
    async with serving(server, credentials=certificates.of_server(mutual=False)):
        target = server.address.replace("127.0.0.1", "localhost")
        async with minwatt.AsyncClient(target, tls=minwatt.Tls(ca=ca), timeout_s=1) as client:
            with pytest.raises((minwatt.Unavailable, minwatt.DeadlineExceeded)):
                await client.classify(["a"])
    assert server.heard == []
