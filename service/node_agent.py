"""The replica's side of the node agent: clocks and watts over its unix socket, for who may not or can't.

Owns the connection, which card is this replica's, and what the agent's absence means: a failure that is tried
again, with backoff, and a reason in the reports. Leaves the schema to minwatt.v1.node_agent. `clocks` and
`power` use what is here as they use a card of their own, each on its thread with a connection of its own.

A lease lasts while its connection is open and it is renewed: a replica that dies gives its card back at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from energy.gpu import GpuError, GpuGone
from energy.nvml import NvmlGpu, visible_gpu
from energy.reading import NO_TELEMETRY, Reading, Telemetry, Unknown
from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import (
    MOST_REPLY_BYTES,
    CardInfo,
    Failure,
    Hello,
    LeaseReply,
    LeaseRequest,
    ReadReply,
    ReadRequest,
    ReleaseReply,
    ReleaseRequest,
    RenewRequest,
    Reply,
    Welcome,
    parse_reply,
    to_line,
)
from service.clocks import NotInForce

ANSWER_WITHIN_S = 2.0
TTL_S = 15.0
RENEWALS = 3  # in the time of a lease: two may be lost
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0

_Expected = TypeVar("_Expected", bound=Reply)
_Request = Hello | LeaseRequest | RenewRequest | ReleaseRequest | ReadRequest


class AgentGone(GpuGone):
    """It doesn't answer, or has closed the connection: what was leased has ended."""


class AgentRefused(GpuError):  # noqa: N818
    """Its answer is no; another time it may be another."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"node agent: {failure.message}")
        self.code = failure.code


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where the agent listens, and what this process knows of its card."""

    path: Path
    environ: Mapping[str, str]
    own_uuid: Callable[[str], str | None]  # of a card by index, where this process can see it
    clock: Callable[[], float] = time.monotonic


class Agent(Protocol):
    """Asked about this replica's card. One caller at a time; `close` from any thread."""

    @property
    def is_open(self) -> bool:
        """Whether what was leased may still be."""
        ...

    def ask(self, request: Callable[[str], _Request], expected: type[_Expected]) -> _Expected:
        """The reply to a request about the card with the name that it is called with. Raises GpuError."""
        ...

    def close(self) -> None: ...


class AgentConnection:
    """An Agent over its socket. Opened when it is needed, and again with backoff."""

    def __init__(self, where: Whereabouts) -> None:
        self.card = ""  # UUID of this replica's; empty until the agent was met
        self._where = where
        self._socket: socket.socket | None = None
        self._received = b""
        self._closed = False
        self._guard = threading.Lock()  # of `_socket` and `_closed`
        self._wait_s = 0.0
        self._retry_at_s = 0.0
        self._gone_because = ""

    def ask(self, request: Callable[[str], _Request], expected: type[_Expected]) -> _Expected:
        """Raises AgentGone, also where it is not clear which card is this replica's; AgentRefused."""
        was_open = self.is_open
        self._connect()
        try:
            reply = self._exchange(request(self.card))
        except AgentGone:
            if not was_open:
                raise
            # It lets go of who was silent for long, and of all as its policy changes.
            self._retry_at_s = 0.0
            self._connect()
            reply = self._exchange(request(self.card))
        if isinstance(reply, Failure):
            raise AgentRefused(reply)
        if not isinstance(reply, expected):
            raise self._lost(f"it answered {type(reply).__name__} where {expected.__name__} was due")
        return reply

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        """For good, also while a call is under way, which then fails."""
        with self._guard:
            self._closed = True
            self._drop()

    def _connect(self) -> None:
        if self._socket is not None:
            return
        if self._where.clock() < self._retry_at_s:
            raise AgentGone(self._gone_because)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_WITHIN_S)
        with self._guard:
            if self._closed:
                connection.close()
                raise AgentGone("node agent: the connection was closed")
            self._socket, self._received = connection, b""
        try:
            connection.connect(str(self._where.path))
        except OSError as error:
            raise self._lost(_reason(error)) from error
        welcome = self._exchange(Hello())
        if isinstance(welcome, Failure):
            raise self._lost(welcome.message)
        if not isinstance(welcome, Welcome):
            raise self._lost(f"it answered {type(welcome).__name__} where Welcome was due")
        try:
            self.card = card_of(welcome.cards, self._where)
        except GpuError as error:
            raise self._lost(str(error)) from error
        self._wait_s = 0.0

    def _exchange(self, request: _Request) -> Reply:
        connection = self._socket
        if connection is None:
            raise AgentGone("node agent: the connection was closed")
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it said why, and left
                connection.sendall(to_line(request))
            return parse_reply(self._line(connection))
        except OSError as error:
            raise self._lost(_reason(error)) from error
        except UsageError as error:
            raise self._lost(f"its answer is not understood: {error}") from error

    def _line(self, connection: socket.socket) -> bytes:
        ends_s = self._where.clock() + ANSWER_WITHIN_S
        while b"\n" not in self._received:
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError("it closed the connection")
            self._received += received
            if len(self._received) > MOST_REPLY_BYTES or self._where.clock() > ends_s:
                raise ConnectionResetError("its answer doesn't end")
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _lost(self, reason: str) -> AgentGone:
        """A line that was half read or never answered can't be gone on with."""
        with self._guard:
            self._drop()
        self._wait_s = min(max(2 * self._wait_s, FIRST_WAIT_S), LONGEST_WAIT_S)
        self._retry_at_s = self._where.clock() + self._wait_s
        self._gone_because = f"node agent {self._where.path}: {reason}"
        return AgentGone(self._gone_because)

    def _drop(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer
            connection.close()


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
        anew = reply.epoch != self._epoch and (reply.source != "nvml" or counted_j + self._offset_j < last_j)
        if self._last is not None and (anew or counted_j + self._offset_j < last_j):
            self._offset_j = last_j - counted_j
        self._epoch = reply.epoch
        return max(last_j, counted_j + self._offset_j)

    def _at_s(self, reply: ReadReply, now_s: float) -> float:
        at_s = now_s - reply.age_s
        return at_s if self._last is None else max(self._last.at_s, at_s)


def agent_at(path: Path) -> Agent:
    """The agent that listens there, for the card of this process."""
    return AgentConnection(Whereabouts(path, os.environ, _uuid_in_this_process))


def card_of(cards: tuple[CardInfo, ...], where: Whereabouts) -> str:
    """Which of the agent's cards or slices this replica computes on. Raises GpuError.

    By the names in CUDA_VISIBLE_DEVICES, else as this process sees its cards, else by the names that the
    container runtime was given, else because there is one only.
    """
    there = [uuid for card in cards for uuid in (card.slices or (card.card,))]
    selector = visible_gpu(where.environ)
    if selector is None:
        raise GpuError("CUDA_VISIBLE_DEVICES hides every GPU")
    if selector.isdigit():
        given = where.environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",")
        named = where.own_uuid(selector) or (given[int(selector)] if int(selector) < len(given) else "")
    else:
        named = selector
    found = [uuid for uuid in there if named.startswith(("GPU-", "MIG-")) and uuid.startswith(named)]
    if len(found) == 1:
        return found[0]
    if len(there) == 1 and not named.startswith(("GPU-", "MIG-")):
        return there[0]
    if not there:
        raise GpuError("it has no cards")
    raise GpuError(
        f"which card is this replica's is not clear: CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES "
        f"names none of {', '.join(there)}"
    )


def _uuid_in_this_process(index: str) -> str | None:
    """Of the card, or of its first slice where MIG splits it; None where NVML isn't there."""
    try:
        gpu = NvmlGpu.open(index)
    except GpuError:
        return None
    try:
        slices = gpu.instances()
        return slices[0].uuid if slices else gpu.uuid
    except GpuError:
        return None
    finally:
        with contextlib.suppress(GpuError):
            gpu.close()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_WITHIN_S:g} s"
    return error.strerror or str(error)
