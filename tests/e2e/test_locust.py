"""Locust's master and a worker of it, each a process, against a server: the users ask it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.e2e.scripted_server import ScriptedServer, serving

FILE = Path(__file__).resolve().parents[2] / "loadtest" / "locustfile.py"


async def test_locusts_own_processes_spread_the_users() -> None:
    server = ScriptedServer()
    async with serving(server):
        locust = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(FILE), "--headless", "--processes", "2"),
            *("-u", "4", "-r", "4", "-t", "2s", "--host", server.address, "--json", "--loglevel", "ERROR"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "MINWATT_USER_RPS": "20", "MINWATT_TASK": "classify"},
        )
        out, _ = await locust.communicate()
    assert locust.returncode == 0
    (row,) = json.loads(out)
    assert (row["name"], row["num_failures"]) == ("Classify", 0)
    assert row["num_requests"] == len(server.heard) > 0
