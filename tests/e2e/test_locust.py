"""Locust's master and a worker of it, each a process, against a server: the users ask it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.e2e.scripted_server import ScriptedServer, serving

FILE = Path(__file__).resolve().parents[2] / "loadtest" / "locustfile.py"


async def test_locusts_own_processes_spread_the_users() -> None:
    server = ScriptedServer()
    async with serving(server):
        users = ("--headless", "--processes", "2", "-u", "4", "-r", "4", "-t", "1s")
        quiet = ("--only-summary", "--loglevel", "ERROR")
        locust = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(FILE), "--host", server.address, *users, *quiet),
            env={**os.environ, "MINWATT_USER_RPS": "20", "MINWATT_TASK": "classify"},
        )
        assert await locust.wait() == 0  # it would be 1 if a request had failed
    assert len(server.heard) > 0
    assert {bool(one.texts) for one in server.heard} == {True}
    assert all(one.left_s < 2.0 for one in server.heard)  # each came with a deadline
