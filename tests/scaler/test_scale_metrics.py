"""`minwatt scale` of one policy shows its metrics beside the port that replicas join."""

from __future__ import annotations

import asyncio
from urllib.request import urlopen

import pytest

from minwatt.v1.errors import UsageError
from scaler.bus_opening import BusOptions
from scaler.dashboard.options import OFF, DashboardOptions
from scaler.inputs import Inputs
from scaler.scale import ScaleOptions, run_scale
from scaler.settings import Settings
from tests.scaler.made_up import policy, profile

INPUTS = Inputs(Settings(policy(), profile()), "profile made up")
HERE = BusOptions("127.0.0.1:0")
NO_PAGE = DashboardOptions(OFF)


async def test_its_metrics_are_served_and_gone_with_it() -> None:
    said: list[str] = []
    options = ScaleOptions(HERE, "default", 0, None, NO_PAGE)
    running = asyncio.create_task(run_scale(INPUTS, options, said.append))
    try:
        while not any(line.startswith("ready: ") for line in said):
            await asyncio.sleep(0.01)
            assert not running.done(), running
        url = next(word for line in said for word in line.split() if word.startswith("http://"))
        page = await asyncio.to_thread(lambda: urlopen(url, timeout=10).read().decode())
        assert 'minwatt_scaler_replicas_max{namespace="",policy="tiny"} 6.0' in page
        assert "\nminwatt_scaler_leader " not in page, "there is nobody to lead"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(OSError, match=r".*"):
        await asyncio.to_thread(urlopen, url, timeout=5)


async def test_a_taken_port_of_its_metrics_is_one_line() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(UsageError, match=f"--metrics-port = {port}: can't listen on 127.0.0.1"):
            await run_scale(INPUTS, ScaleOptions(HERE, "default", port, None, NO_PAGE), lambda _line: None)
    finally:
        server.close()
        await server.wait_closed()
