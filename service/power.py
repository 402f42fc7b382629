"""The replica's meter: read each second on a thread of its own, its joules shared out by the ledger.

Owns the last reading. Serving goes on when the meter fails: then watts are unknown, with the reason. Called
by `server` (the loop), `telemetry` (charges) and whoever shows watts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from energy import MeterSpecError, MeterUnavailable, PowerMeter, Reading, Unknown, open_meter
from energy.apportion import Ledger, Totals
from energy.reading import NO_TELEMETRY, Telemetry
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_pb2 import Power
from service.agent_connection import agent_at
from service.node_agent import AgentMeter

READ_EVERY_S = 1.0
OF_AGENT = "agent"

log = logging.getLogger(__name__)


def meter_of(spec: str, node_agent: Path | None = None) -> PowerMeter:
    """The meter a `--meter` flag names; `agent`: that of the node agent at this socket. Raises UsageError."""
    if spec == OF_AGENT and node_agent is not None:
        return AgentMeter(agent_at(node_agent))
    try:
        return open_meter(spec)
    except (MeterSpecError, MeterUnavailable) as error:
        raise UsageError(str(error)) from error


class PowerBook:
    """Readings and charges of one meter."""

    def __init__(self, meter: PowerMeter, engine_threads: int) -> None:
        self.meter = meter
        self.last: Reading | Unknown | None = None  # None before the first reading
        self._device: Telemetry = NO_TELEMETRY
        self._ledger = Ledger.of(meter, engine_threads)
        self._sharing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="meter")

    @property
    def source(self) -> str:
        """The kind of meter; `unknown` while it gives no watts."""
        return self.last.source if isinstance(self.last, Reading) else "unknown"

    @property
    def totals(self) -> Totals:
        return self._ledger.totals

    def charge(self, compute_s: float, tokens: Sequence[int]) -> Sequence[float] | None:
        """Joules of each text of a computed batch; None while unknown."""
        return self._ledger.charge(compute_s, tokens)

    async def share(self) -> None:
        """From here on joules are shared among requests and idle time; those before are start-up."""
        self._sharing = True
        await self.read()

    async def read(self) -> None:
        """One reading, off the event loop: a meter may block for milliseconds. Never raises."""
        reading, self._device = await asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        try:
            if self._sharing:
                self._ledger.observe(reading)
        except ValueError as error:  # a meter that went back
            log.warning("%s", error)
            reading = Unknown(str(error), reading.at_s)
        self.last = reading

    async def keep_reading(self) -> None:
        """Until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(READ_EVERY_S)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self.meter.close()

    def _read(self) -> tuple[Reading | Unknown, Telemetry]:
        return self.meter.read(), self.meter.telemetry()

    def message(self) -> Power:
        """The last reading as the fleet is told it."""
        power = Power(
            source=self.source,
            device=self.meter.device,
            gpu_utilization=self._device.utilization,
            gpu_clock_hertz=self._device.clock_hz,
            temperature_celsius=self._device.temperature_c,
            power_limit_watts=self._device.power_limit_w,
        )
        if isinstance(self.last, Reading):
            power.joules_total, power.watts = self.last.joules_total, self.last.watts
        else:
            power.unknown_reason = "not read yet" if self.last is None else self.last.reason
        return power
