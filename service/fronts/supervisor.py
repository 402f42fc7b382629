"""The replica's first process: starts the engine process and the front ends, and starts anew what dies.

Forks them off itself while it has neither a thread of its own, nor a loop, nor a model, so a fork is safe and
they share the memory of what is imported (numpy and ONNX Runtime start an idle thread each when they are;
children do without). It holds the listening sockets (a front end that dies leaves its waiting connections to
the next one), hands out channels, passes signals on, and computes nothing. When it is killed, the engine
process gets SIGTERM and drains, and the front ends go with it. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from energy.modelled import this_process
from minwatt.v1.errors import UsageError
from service import event_loop, logs
from service.door import Door, authority, bound
from service.fronts.channel import new_channel
from service.fronts.children import Child, all_said, call_this_process, exit_code, fork, how, tie_to
from service.fronts.engine_process import READY, engine
from service.fronts.front_end import FrontEnd
from service.fronts.ring import orders_stores
from service.fronts.signals import Signals
from service.lifecycle.loading import AS_SERVED, Makers
from service.server import door_options
from service.settings import ServeSettings

ENGINE_DEATHS, FRONT_END_DEATHS = 3, 5  # in a minute (front ends: each); one more, and the replica ends
MINUTE_S = 60.0
LAST_MOMENT_S = 5.0  # for front ends to end once the engine process has; then they are killed

log = logging.getLogger(__name__)


def supervise(settings: ServeSettings, on_ready: Callable[[str], None], makers: Makers = AS_SERVED) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. `on_ready` is called in another process.

    Raises UsageError.
    """
    if sys.platform != "linux" or not orders_stores():
        raise UsageError(f"front-ends = {settings.front_ends}: Linux on x86-64 is needed; allowed here: 0")
    Door(door_options(settings))  # reads the certificates: what is wrong with them is told at once
    return _Supervisor(settings, on_ready, makers).run()


class _Supervisor:
    def __init__(self, settings: ServeSettings, on_ready: Callable[[str], None], makers: Makers) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._makers = makers
        self._sockets = _slots(settings)
        self._address = authority(settings.host, self._sockets[0][0].getsockname()[1])
        self._engine: Child | None = None
        self._front_ends: list[Child | None] = [None] * settings.front_ends
        self._engine_deaths: deque[float] = deque()
        self._front_end_deaths: deque[float] = deque()
        self._was_ready = False
        self._stopping: int | None = None  # the signal
        self._ended: int | None = None  # with this code
        self._error = ""  # a user's mistake, in one line

    def run(self) -> int:
        """Raises UsageError."""
        watched = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        if not os.isatty(0):
            watched.append(signal.SIGHUP)
        self._signals = Signals(watched)
        gc.collect()
        gc.freeze()  # what is there by now stays shared
        try:
            self._start_engine()
            for slot in range(len(self._front_ends)):
                self._start_front_end(slot)
            while self._ended is None:
                for number in self._signals.next(None):
                    if self._ended is None:
                        self._on_signal(number)
            self._wait_for_front_ends()
        finally:
            self._kill_all()
            self._signals.close()
        if self._error:
            raise UsageError(self._error)
        return self._ended

    # -- what happens

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._pass_on(number)
        else:
            self._stopping = number
            self._let_go_of_sockets()
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self._engine is not None:
            os.kill(self._engine.pid, number)

    def _reap(self) -> None:
        for slot, front_end in enumerate(self._front_ends):
            if front_end is not None and (code := exit_code(front_end.pid)) is not None:
                for line in all_said(front_end.control):
                    log.error("a front end: %s", line.decode())
                front_end.control.close()
                self._front_ends[slot] = None
                self._front_end_ended(slot, code)
        if self._engine is not None and (code := exit_code(self._engine.pid)) is not None:
            said = all_said(self._engine.control)
            self._was_ready = self._was_ready or READY in said
            self._error = next((one.decode() for one in said if one != READY), "")
            self._engine.control.close()
            self._engine = None
            self._engine_ended(code)

    def _front_end_ended(self, slot: int, code: int) -> None:
        if self._stopping is not None or self._ended is not None:
            return
        most = FRONT_END_DEATHS * len(self._front_ends)
        if not _within(self._front_end_deaths, most):
            log.error("a front end has ended (%s), and %d before it: the replica ends", how(code), most)
            self._stop_with(1)
            return
        log.error("a front end has ended (%s): it is started anew", how(code))
        self._start_front_end(slot)

    def _engine_ended(self, code: int) -> None:
        if code == 0 or self._stopping is not None or self._error or not self._was_ready:
            self._ended = code if code >= 0 else 128 - code
        elif self._settings.replica_id is not None:  # its scaler knows it by that name, and starts another
            log.error(
                "the engine process has ended (%s): so does replica %s", how(code), self._settings.replica_id
            )
            self._ended = 1
        elif not _within(self._engine_deaths, ENGINE_DEATHS):
            log.error(
                "the engine process has ended (%s), and %d before it: the replica ends",
                how(code),
                ENGINE_DEATHS,
            )
            self._ended = 1
        else:
            log.error("the engine process has ended (%s): it is started anew", how(code))
            self._was_ready = False  # one that can't start ends the replica
            self._start_engine()
            for front_end in self._front_ends:
                if front_end is not None:
                    self._connect(front_end)

    def _stop_with(self, code: int) -> None:
        self._ended = code
        self._pass_on(signal.SIGTERM)

    # -- processes

    def _start_engine(self) -> None:
        before_s = this_process().age_s if not self._engine_deaths else 0.0
        again = bool(self._engine_deaths)

        supervisor = os.getpid()

        def act(control: socket.socket) -> None:
            call_this_process(b"minwatt-engine")
            tie_to(supervisor)
            self._let_go_of_sockets()
            for front_end in self._front_ends:
                if front_end is not None:
                    front_end.control.close()
            on_ready = self._on_ready if not again else log.info
            engine(self._settings, control, self._address, on_ready, self._makers, before_s)

        self._engine = fork(act, self._signals)

    def _start_front_end(self, slot: int) -> None:
        def act(control: socket.socket) -> None:
            call_this_process(b"minwatt-front")
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends when the engine process has drained
            for other, sockets in enumerate(self._sockets):
                if other != slot:
                    for one in sockets:
                        one.close()
            for child in (self._engine, *self._front_ends):
                if child is not None:
                    child.control.close()
            options = replace(door_options(self._settings), bound=tuple(self._sockets[slot]))

            async def main() -> None:
                logs.watch(asyncio.get_running_loop())
                await FrontEnd(self._settings, options, control).run()

            event_loop.run(main())

        front_end = self._front_ends[slot] = fork(act, self._signals)
        self._connect(front_end)

    def _connect(self, front_end: Child) -> None:
        """Whoever of the two has died meanwhile is reaped next, and the other finds its end lost."""
        if self._engine is None:
            return
        process = os.pidfd_open(front_end.pid)  # it is not reaped yet, whether it lives or not
        try:
            with new_channel() as (engines_end, front_ends_end), suppress(OSError):
                engines_end.others_process = process
                engines_end.send(self._engine.control)
                front_ends_end.send(front_end.control)
        finally:
            os.close(process)

    # -- the end

    def _let_go_of_sockets(self) -> None:
        """From here on a front end that closes its own ends the listening."""
        for sockets in self._sockets:
            for one in sockets:
                one.close()

    def _wait_for_front_ends(self) -> None:
        self._let_go_of_sockets()
        for child in (self._engine, *self._front_ends):
            if child is not None:
                child.control.close()
        ends_s = time.monotonic() + LAST_MOMENT_S
        if self._engine is not None:  # it drains
            ends_s += self._settings.drain_delay_s + self._settings.drain_grace_s
        while self._pids and (left_s := ends_s - time.monotonic()) > 0:
            self._signals.next(min(left_s, 0.2))
            self._forget_ended()

    @property
    def _pids(self) -> list[int]:
        children = (self._engine, *self._front_ends)
        return [child.pid for child in children if child is not None]

    def _forget_ended(self) -> None:
        if self._engine is not None and exit_code(self._engine.pid) is not None:
            self._engine = None
        for slot, front_end in enumerate(self._front_ends):
            if front_end is not None and exit_code(front_end.pid) is not None:
                self._front_ends[slot] = None

    def _kill_all(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _slots(settings: ServeSettings) -> list[list[socket.socket]]:
    """The sockets of each front end, on one port; bound, and not listening yet. Raises UsageError."""
    if settings.port and not settings.reuse_port:
        for one in bound(settings.host, settings.port, reuse_port=False):
            one.close()  # the port is nobody else's
    slots: list[list[socket.socket]] = []
    port = settings.port
    for _ in range(settings.front_ends):
        slots.append(bound(settings.host, port, reuse_port=True, listening=False))
        port = slots[0][0].getsockname()[1]
    return slots


def _within(deaths: deque[float], most: int) -> bool:
    """Counts one more; whether that many in a minute are borne."""
    now_s = time.monotonic()
    deaths.append(now_s)
    while deaths[0] < now_s - MINUTE_S:
        deaths.popleft()
    return len(deaths) <= most
