"""A replica's connection to the node agent, and which of the agent's cards is its own.

Owns the socket, its loss and the waits between tries. Leaves the schema to minwatt.v1.node_agent, and what is
asked for to `node_agent`, which uses this on the threads of `clocks` and `power`, a connection each.
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
from typing import TypeVar

from energy.gpu import GpuError, GpuGone
from energy.nvml import NvmlGpu, visible_gpu
from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import (
    MOST_REPLY_BYTES,
    CardInfo,
    Failure,
    Hello,
    Reply,
    Request,
    Welcome,
    parse_reply,
    to_line,
)

ANSWER_WITHIN_S = 2.0
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0

_Expected = TypeVar("_Expected", bound=Reply)


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


class AgentConnection:
    """Opened when it is needed, and again with backoff. One caller at a time; `close` from any thread."""

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

    def ask(self, request: Callable[[str], Request], expected: type[_Expected]) -> _Expected:
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

    def _exchange(self, request: Request) -> Reply:
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


def agent_at(path: Path) -> AgentConnection:
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
