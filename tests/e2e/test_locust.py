"""Locust's master and a worker of it, each a process, against a server: the users ask it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.certificates import Certificates
from tests.e2e.scripted_server import ScriptedServer, serving

FILE = Path(__file__).resolve().parents[2] / "loadtest" / "locustfile.py"


@pytest.mark.parametrize("secured", [False, True], ids=["in the clear", "by certificate and key"])
async def test_locusts_own_processes_spread_the_users(secured: bool, tmp_path: Path) -> None:
    certificates, server, who = Certificates(tmp_path, "127.0.0.1"), ScriptedServer(), {}
    if secured:
        (tmp_path / "api.key").write_text("mw_secret")
        files = {
            "TLS_CA": "ca.pem",
            "TLS_CERT": "client.pem",
            "TLS_KEY": "client.key",
            "API_KEY_FILE": "api.key",
        }
        who = {f"MINWATT_{name}": str(tmp_path / file) for name, file in files.items()}
    async with serving(server, credentials=certificates.of_server(mutual=True) if secured else None):
        users = ("--headless", "--processes", "2", "-u", "4", "-r", "4", "-t", "1s")
        quiet = ("--only-summary", "--loglevel", "ERROR")
        locust = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(FILE), "--host", server.address, *users, *quiet),
            env={**os.environ, "MINWATT_USER_RPS": "20", "MINWATT_TASK": "classify", **who},
        )
        assert await locust.wait() == 0  # it would be 1 if a request had failed
    assert len(server.heard) > 0
    assert {bool(one.texts) for one in server.heard} == {True}
    assert all(
        one.metadata.get("authorization") == ("Bearer mw_secret" if secured else None) for one in server.heard
    )
    assert all(one.left_s < 2.0 for one in server.heard)  # each came with a deadline
