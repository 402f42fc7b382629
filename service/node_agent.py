"""The replica's side of the node agent: clocks and watts of its card, for who may not set or can't read them.

Owns what is asked of the agent and what its absence means: a failure that is tried again, and a reason in the
reports. Leaves the connection to `agent_connection`. `clocks` and `power` use what is here as they use a card
of their own.

A lease lasts while its connection is open and it is renewed: a replica that dies gives its card back at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from energy.gpu import GpuError
from energy.reading import NO_TELEMETRY, Reading, Telemetry, Unknown
from minwatt.v1.node_agent import (
    LeaseReply,
    LeaseRequest,
    ReadReply,
    ReadRequest,
    ReleaseReply,
    ReleaseRequest,
    RenewRequest,
    Reply,
    Request,
)
from service.agent_connection import AgentRefused
from service.clocks import NotInForce

TTL_S = 15.0
RENEWALS = 3  # in the time of a lease: two may be lost

_Expected = TypeVar("_Expected", bound=Reply)


class Agent(Protocol):
    """Asked about this replica's card. One caller at a time; `close` from any thread."""

    @property
    def is_open(self) -> bool:
        """Whether what was leased may still be."""
        ...

    def ask(self, request: Callable[[str], Request], expected: type[_Expected]) -> _Expected:
        """The reply to a request about the card with the name that it is called with. Raises GpuError."""
        ...

    def close(self) -> None: ...


class AgentClocks:
    """The clock of this replica's card, held through the agent. A ClockControl."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._leased_mhz = 0
        self._ttl_s = TTL_S

    @property
    def renew_s(self) -> float | None:
        """How often `lock` is to be called again while a clock is held."""
        return self._ttl_s / RENEWALS

    def lock(self, clock_mhz: int) -> int:
        """Leases the clock, or renews the lease. Returns what is in force: another's lease may ask for more.

        Raises GpuError.
        """
        try:
            reply = self._renewed(clock_mhz) or self._granted(clock_mhz)
        except GpuError:
            self._leased_mhz = 0
            raise
        self._ttl_s = reply.ttl_s
        if reply.in_force_sm_clock_mhz is None:
            raise NotInForce(f"node agent: {reply.why or 'the card is at its own clocks'}")
        return reply.in_force_sm_clock_mhz

    def restore(self) -> None:
        """Ends the lease. Raises GpuError."""
        if self._leased_mhz and self._agent.is_open:
            self._agent.ask(lambda card: ReleaseRequest(card=card), ReleaseReply)
        self._leased_mhz = 0  # without a connection there is none

    def close(self) -> None:
        """The connection's end is the lease's. Never raises."""
        self._agent.close()

    def _renewed(self, clock_mhz: int) -> LeaseReply | None:
        """None where there is nothing to renew."""
        if clock_mhz != self._leased_mhz or not self._agent.is_open:
            return None
        try:
            return self._agent.ask(lambda card: RenewRequest(card=card, ttl_s=TTL_S), LeaseReply)
        except AgentRefused as error:
            if error.code != "no_lease":  # it ran out
                raise
            return None

    def _granted(self, clock_mhz: int) -> LeaseReply:
        reply = self._agent.ask(
            lambda card: LeaseRequest(card=card, sm_clock_mhz=clock_mhz, ttl_s=TTL_S), LeaseReply
        )
        self._leased_mhz = clock_mhz
        return reply


class AgentMeter:
    """The watts of this replica's card, or of its share, as the agent reads them. A PowerMeter."""

    idle_w: float | None = None
    busy_w_per_core: float | None = None

    def __init__(self, agent: Agent, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = "nvml"
        self.device = ""
        self._agent = agent
        self._clock = clock
        self._telemetry = NO_TELEMETRY
        self._epoch = ""
        self._counted: tuple[str, str] | None = None  # source and device of the last count
        self._offset_j = 0.0  # what an agent that has ended had counted of this replica's share
        self._last: Reading | None = None
        first = self.read()
        self.opening_j = first.joules_total if isinstance(first, Reading) else None

    def read(self) -> Reading | Unknown:
        now_s = self._clock()
        self._telemetry = NO_TELEMETRY
        try:
            reply = self._agent.ask(lambda card: ReadRequest(card=card), ReadReply)
        except GpuError as error:
            return Unknown(str(error), now_s)
        self.source, self.device = reply.source, reply.device
        self._telemetry = Telemetry(
            reply.utilization, reply.clock_hz, reply.temperature_c, reply.power_limit_w
        )
        if reply.joules_total is None or reply.watts is None:
            return Unknown(f"node agent: {reply.unknown or 'no watts'}", now_s)
        self._last = Reading(
            self._total_j(reply, reply.joules_total), reply.watts, reply.source, self._at_s(reply, now_s)
        )
        return self._last

    def telemetry(self) -> Telemetry:
        """Of the last reading."""
        return self._telemetry

    def close(self) -> None:
        self._agent.close()

    def _total_j(self, reply: ReadReply, counted_j: float) -> float:
        """Goes on from the last total where the count began anew; what a gap hid stays out of it."""
        last_j = 0.0 if self._last is None else self._last.joules_total
        counted = (reply.source, reply.device)  # a card and a share of it have counts of their own
        anew = counted != self._counted or (
            reply.epoch != self._epoch and (reply.source != "nvml" or counted_j + self._offset_j < last_j)
        )
        if self._last is not None and (anew or counted_j + self._offset_j < last_j):
            self._offset_j = last_j - counted_j
        self._epoch, self._counted = reply.epoch, counted
        return max(last_j, counted_j + self._offset_j)

    def _at_s(self, reply: ReadReply, now_s: float) -> float:
        at_s = now_s - reply.age_s
        return at_s if self._last is None else max(self._last.at_s, at_s)
