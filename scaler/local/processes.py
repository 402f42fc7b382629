"""A fleet of replicas as processes on this machine.

Owns starting, stopping and outliving them. How many there are to be is the loop's to say; what each is told
to serve is `ReplicaCommand`; when one is given up or started again is `health`. A replica that ends by itself
is gone: the next beat starts another, later and later if they don't last.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from minwatt.v1.errors import UsageError
from scaler.local.health import STEADY_S, Backoff, Silences
from scaler.signals import Missing, Signals

_USAGE = 2  # exit code of a mistake that a second start would only repeat
_STDERR_LINES = 20


@dataclass(frozen=True, slots=True)
class LocalRules:
    drain_timeout_s: float  # after SIGTERM; then SIGKILL
    start_timeout_s: float  # to ready; one that hangs would keep others from starting
    # A start computes as much as a busy replica: more at once than there are cores to spare slow one another,
    # and the replicas that answer.
    max_starting: int
    stale_after_s: float  # a ready replica that says nothing for so long hangs


@dataclass(slots=True)
class _Replica:
    name: str
    process: asyncio.subprocess.Process
    ready_at_s: float | None = None
    leaving: bool = False
    hung: bool = False
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=_STDERR_LINES))

    @property
    def ready(self) -> bool:
        return self.ready_at_s is not None


@dataclass(frozen=True, slots=True)
class Leaver:
    """A replica as the choice of who leaves sees it; `age` counts from the oldest."""

    name: str
    ready: bool
    in_flight: int
    age: int


def choose_leavers(replicas: Sequence[Leaver], count: int) -> list[str]:
    """Those whose leaving disturbs least: not ready yet, then fewest requests in flight, then newest."""
    ordered = sorted(replicas, key=lambda one: (one.ready, one.in_flight, -one.age))
    return [one.name for one in ordered[:count]]


class LocalFleet:
    """`command(name)` is the argument vector of a replica; `say` takes lines for the user."""

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        rules: LocalRules,
        *,
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._command = command
        self._rules = rules
        self._clock = clock
        self._say = say
        self._replicas: dict[str, _Replica] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = 0
        self._backoff = Backoff()
        self._silences = Silences(rules.stale_after_s)
        self._mistake: str | None = None
        self._ever_ready = False

    def running(self, seen: Signals | Missing) -> int:  # noqa: ARG002 - processes are counted, not reports
        return len(self._staying())

    def awaited(self, seen: Signals | Missing) -> bool:  # noqa: ARG002 - each says itself that it is ready
        return self._ever_ready

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        """Raises UsageError when replicas can't start for a mistake in how they were asked to."""
        if self._mistake is not None:
            raise UsageError(self._mistake)
        staying = self._staying()
        now_s = self._clock()
        self._backoff.lasting([one.ready_at_s for one in staying if one.ready_at_s is not None], now_s)
        self._give_up_silent(staying, seen, now_s)
        if len(staying) < desired and self._backoff.may_start(now_s):
            starting = sum(not replica.ready for replica in staying)
            for _ in range(min(desired - len(staying), self._rules.max_starting - starting)):
                await self._start()
        leavers = [
            Leaver(one.name, one.ready, seen.in_flight.get(one.name, 0), age)
            for age, one in enumerate(staying)
        ]
        for name in choose_leavers(leavers, len(staying) - desired) if desired < len(staying) else ():
            self._stop(self._replicas[name])

    async def close(self) -> None:
        """SIGTERM to all, and waits until they have drained."""
        for replica in self._staying():
            self._stop(replica)
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def kill(self) -> None:
        """For a user who does not want to wait for the drain."""
        for replica in self._replicas.values():
            with contextlib.suppress(ProcessLookupError):
                replica.process.kill()

    def _give_up_silent(self, staying: list[_Replica], seen: Signals | Missing, now_s: float) -> None:
        """One at a time: its successor is to be ready before the next, in case it is us who don't hear."""
        ready = {one.name: one for one in staying if one.ready}
        overdue = self._silences.overdue(now_s, ready, seen.in_flight.keys() - seen.silent)
        if not overdue or len(ready) < len(staying):
            return
        hung = ready[overdue[0]]
        if hung.hung:
            return  # killed, and not gone yet
        hung.hung = True
        self._say(f"{hung.name} has said nothing for {self._rules.stale_after_s:g} s: killed")
        with contextlib.suppress(ProcessLookupError):
            hung.process.kill()

    def _staying(self) -> list[_Replica]:
        return [replica for replica in self._replicas.values() if not replica.leaving]

    async def _start(self) -> None:
        self._started += 1
        name = f"replica-{self._started}"
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # A Ctrl-C in the terminal is for the scaler, which drains its replicas.
                start_new_session=True,
            )
        except OSError as error:  # no memory, or no processes or files left
            self._failed_start(name, error.strerror or str(error))
            return
        replica = _Replica(name, process)
        self._replicas[name] = replica
        self._keep(self._watch(replica))
        self._keep(self._kill_stuck(replica))

    def _stop(self, replica: _Replica) -> None:
        replica.leaving = True
        with contextlib.suppress(ProcessLookupError):
            replica.process.send_signal(signal.SIGTERM)
        self._keep(self._kill_late(replica))

    async def _kill_late(self, replica: _Replica) -> None:
        try:
            await asyncio.wait_for(replica.process.wait(), self._rules.drain_timeout_s)
        except TimeoutError:
            self._say(f"{replica.name} has not drained in {self._rules.drain_timeout_s:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                replica.process.kill()

    async def _kill_stuck(self, replica: _Replica) -> None:
        try:
            await asyncio.wait_for(replica.process.wait(), self._rules.start_timeout_s)
        except TimeoutError:
            if replica.ready or replica.leaving:
                return
            self._say(f"{replica.name} is not ready after {self._rules.start_timeout_s:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                replica.process.kill()

    async def _watch(self, replica: _Replica) -> None:
        await asyncio.gather(self._read_stdout(replica), self._read_stderr(replica))
        code = await replica.process.wait()
        del self._replicas[replica.name]
        if replica.leaving:
            return
        tail = replica.last_words[-1] if replica.last_words else "nothing on stderr"
        if replica.ready_at_s is None:
            if code == _USAGE and not self._ever_ready:
                self._mistake = tail.removeprefix("minwatt serve: ")
            self._failed_start(replica.name, f"exit code {code}: {tail}")
        elif replica.hung or self._clock() - replica.ready_at_s < STEADY_S:
            wait_s = self._backoff.failed(self._clock())
            self._say(f"{replica.name} did not last, exit code {code}: {tail}; next try in {wait_s:g} s")
        else:
            self._say(f"{replica.name} is gone, exit code {code}: {tail}")

    def _failed_start(self, name: str, reason: str) -> None:
        wait_s = self._backoff.failed(self._clock())
        self._say(f"{name} did not start, {reason}; next try in {wait_s:g} s")

    async def _read_stdout(self, replica: _Replica) -> None:
        async for line in _lines(replica.process.stdout):
            if line.startswith("ready:"):
                replica.ready_at_s = self._clock()
                self._ever_ready = True

    async def _read_stderr(self, replica: _Replica) -> None:
        async for line in _lines(replica.process.stderr):
            if line.strip():
                replica.last_words.append(line.strip())

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:  # a line longer than the reader's buffer is dropped
            continue
        if not line:
            return
        yield line.decode(errors="replace")
