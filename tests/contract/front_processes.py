"""Front-end processes with test handlers behind them: what `FrontEnd` has for a door in that mode.

Between client and handler stands what `minwatt serve --front-ends N` has there: forked processes with
`service.fronts.front_end` in each, channels of shared memory, `service.fronts.engine_door`. The engine
process is the test's own, so that a test sees its unary handlers at work; streams are a front end's own
matter, so their handlers run there and tell through a pipe what they see. Processes are forked by one that
was started for it (`Nursery`): the test's has threads. Used by `front_end`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from service import changed_files, event_loop, logs
from service.assembly import Parts, assemble
from service.calls import Service
from service.door import DoorOptions, bound
from service.front import ending, http2
from service.fronts.channel import new_channel
from service.fronts.children import fork
from service.fronts.engine_door import EngineDoor
from service.fronts.engine_process import parts_of
from service.fronts.front_end import FrontEnd
from service.fronts.messages import World
from service.fronts.signals import Signals
from service.oip.models import Deployed
from service.oip.repository import Repository
from service.oip.service import Served
from service.settings import ServeSettings

# What tests shorten: told to each process, as it is when the process starts.
TUNED = (
    (ending, "AGE_GRACE_S"),
    (http2, "PREFACE_S"),
    (http2, "RESETS_BURST"),
    (http2, "RESETS_PER_S"),
    (changed_files, "LOOK_S"),
)
MANY = 1_000_000

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
Streams = Callable[[Tell], Service]  # makes the handlers of streams; they tell what they see, in lines
Start = tuple[ServeSettings, DoorOptions, Streams, list[float]]


class Nursery:
    """The process that forks front ends; ended with its last `close`."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __spec__.name, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def start(self, start: Start, given: Sequence[int]) -> int:
        """A front end's process id; `given`: its control, the pipe it tells through, its sockets."""
        socket.send_fds(self._socket, [pickle.dumps(start)], given)
        pid = self._socket.recv(64)
        assert pid, "the nursery has ended"
        return int(pid)

    def close(self) -> None:
        self._socket.close()
        assert self._process.wait(20) == 0


class ProcessesDoor:
    """As `service.door.Door`, for as long as the loop that it is made on."""

    def __init__(
        self,
        options: DoorOptions,
        model: Path,
        processes: int,
        nursery: Nursery,
        streams: Streams,
        told: Tell,
    ) -> None:
        self._options = options
        self._nursery = nursery
        self._streams = streams
        self._told = told
        self._settings = ServeSettings.of_flags(
            model=model, meter="modelled", front_ends=processes, max_in_flight=MANY
        )
        self._parts: Parts = assemble(self._settings)
        self._left = ExitStack()
        self._left.callback(self._parts.inference.close)
        self._left.callback(self._parts.power.close)
        self._door: EngineDoor | None = None
        self.pids: list[int] = []

    async def open(self, services: Sequence[Service]) -> str:
        """Raises UsageError."""
        parts = self._parts
        ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._left.enter_context(ours)
        self._left.enter_context(control)
        repository = Repository(parts.lifecycle, lambda _: None)
        served = Served(parts.replica, repository, Deployed("cpu", 8), 4096, 8)
        self._door = EngineDoor(
            parts_of(parts, served, self._settings), control, "", self._settings.front_ends
        )
        port = self._start_processes(ours)
        await self._door.open(services)
        return f"{self._options.host}:{port}"

    def _start_processes(self, control: socket.socket) -> int:
        """The port that they share."""
        reads, writes = os.pipe()
        threading.Thread(target=_listen, args=(reads, self._told), daemon=True).start()
        port = self._options.port
        values = [getattr(module, name) for module, name in TUNED]
        for _ in range(self._settings.front_ends):
            [own] = bound(self._options.host, port, reuse_port=True, listening=False)
            port = own.getsockname()[1]
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with own, here, there, new_channel() as (engines_end, front_ends_end):
                start = (self._settings, self._options, self._streams, values)
                given = [there.fileno(), writes, own.fileno()]
                self.pids.append(self._nursery.start(start, given))
                engines_end.others_process = os.pidfd_open(self.pids[-1])
                engines_end.send(control)
                os.close(engines_end.others_process)
                front_ends_end.send(here)
        os.close(writes)
        return port

    async def set_serving(self, serving: bool) -> None:
        """Returns when all processes say so."""
        assert self._door is not None
        self._door.set_serving(serving)
        await self._door.followed()

    async def close(self, grace_s: float) -> None:
        door, self._door = self._door, None
        if door is not None:
            await door.close(grace_s)
            self._left.close()


def _listen(reads: int, told: Tell) -> None:
    """Until the last process has ended."""
    with os.fdopen(reads) as lines:
        for line in lines:
            told(line.rstrip("\n"))


# -- a front end's process


class ProbedFrontEnd(FrontEnd):
    """Serves what the engine process has: unary calls are forwarded, streams answered here."""

    def __init__(self, start: Start, control: socket.socket, tell: Tell) -> None:
        settings, options, streams, _ = start
        super().__init__(settings, options, control)
        self._own = streams(tell)

    def _services(self, world: World) -> Sequence[Service]:
        name = self._own.name
        forwarded = {method: partial(self._forward, f"/{name}/{method}") for method in world.methods[name]}
        return [Service(name, forwarded, self._own.streams)]


class _ToldLog(logging.Handler):
    """What is logged here is read there."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell
        self.setFormatter(logs.TextLine())

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(f"log {record.levelno} {self.format(record)}")


def _run(start: Start, given: Sequence[int]) -> None:
    control, writes, *listening = given
    for (module, name), value in zip(TUNED, start[3], strict=True):
        setattr(module, name, value)

    def tell(line: str) -> None:
        os.write(writes, f"{line}\n".encode())

    logging.basicConfig(level=logging.INFO, handlers=[_ToldLog(tell)], force=True)
    sockets = tuple(socket.socket(fileno=number) for number in listening)
    settings, options, streams, values = start
    here = (settings, replace(options, bound=sockets), streams, values)

    async def main() -> None:
        logs.watch(asyncio.get_running_loop())
        await ProbedFrontEnd(here, socket.socket(fileno=control), tell).run()

    event_loop.run(main())


def main() -> None:
    """The nursery: a front end for each message, until there is nobody to send one."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # they are not waited for
    signals = Signals([signal.SIGTERM])
    while True:
        data, given, _, _ = socket.recv_fds(asked, 64 * 1024, 8)
        if not data:
            break
        start: Start = pickle.loads(data)

        def act(_: socket.socket, start: Start = start, given: Sequence[int] = given) -> None:
            asked.close()
            _run(start, given)

        child = fork(act, signals)
        child.control.close()
        for number in given:
            os.close(number)
        asked.send(str(child.pid).encode())
    signals.close()


if __name__ == "__main__":
    main()
