"""One plan sent by several processes, each on a core of its own: every request once, on one clock.

Owns the splitting of a plan, the processes, their common start and the joining of what they measured. Each
runs `sender.send` on its part. Called by `replay`.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from loadtest.identity import IdentityOptions
from loadtest.outcomes import Outcome
from loadtest.plan import Plan
from loadtest.sender import Progress, SendOptions, SendResult, Start, send
from minwatt.v1.errors import UsageError

HEAD_START_S = 0.2  # from when all are connected to the first request


@dataclass(frozen=True, slots=True)
class Part:
    """What one process sends."""

    plan: Plan
    target: str
    options: SendOptions  # without an identity: its credentials live in one process
    who: IdentityOptions


def split(plan: Plan, parts: int) -> list[Plan]:
    """Every n-th request each, so that all are as busy as one another at all times."""
    return [
        replace(
            plan,
            planned_s=plan.planned_s[first::parts],
            choices=plan.choices[first::parts],
            deadlines_s=None if plan.deadlines_s is None else plan.deadlines_s[first::parts],
        )
        for first in range(parts)
    ]


def joined(results: Sequence[SendResult]) -> SendResult:
    """All outcomes in planned order."""
    outcomes = sorted(
        (outcome for result in results for outcome in result.outcomes), key=lambda outcome: outcome.planned_s
    )
    stops_s = [result.stopped_at_s for result in results if result.stopped_at_s is not None]
    return SendResult(outcomes, min(result.started_unix_s for result in results), max(stops_s, default=None))


def summed(latest: Sequence[Progress | None], new: Sequence[Outcome]) -> Progress:
    """Where all of them are together; `new`: what was answered since this was last told."""
    known = [one for one in latest if one is not None]
    return Progress(
        max(one.at_s for one in known),
        sum(one.planned for one in known),
        sum(one.sent for one in known),
        sum(one.completed for one in known),
        sum(one.refused for one in known),
        sum(one.failed for one in known),
        max(one.lag_s for one in known),
        tuple(new),
    )


async def send_by_processes(
    plan: Plan,
    target: str,
    options: SendOptions,
    who: IdentityOptions,
    processes: int,
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> SendResult:
    """As `sender.send`. Connections and requests in flight are shared out among the processes."""
    each = replace(
        options,
        connections=-(-options.connections // processes),
        max_outstanding=-(-options.max_outstanding // processes),
    )
    context = multiprocessing.get_context("spawn")  # gRPC's threads do not survive a fork
    crew = []
    for plan_of_one in split(plan, processes):
        ours, theirs = context.Pipe()
        part = Part(plan_of_one, target, each, who)
        process = context.Process(target=_act, args=(theirs, part), daemon=True)
        process.start()
        theirs.close()
        crew.append((process, ours))
    threads = ThreadPoolExecutor(processes)
    try:
        return await _Crew([ours for _, ours in crew], threads).run(on_progress, stop or asyncio.Event())
    finally:
        for process, ours in crew:
            ours.close()  # whoever still sends finds this out, and ends
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()
        threads.shutdown(wait=False)


class _Crew:
    """The processes as this one sees them."""

    def __init__(self, pipes: Sequence[Connection[Any, Any]], threads: ThreadPoolExecutor) -> None:
        self._pipes, self._threads = pipes, threads
        self._latest: list[Progress | None] = [None] * len(pipes)

    async def run(self, on_progress: Callable[[Progress], None] | None, stop: asyncio.Event) -> SendResult:
        """Raises UsageError, the first that any of them had."""
        for pipe in self._pipes:
            await self._next(pipe)  # it is connected
        start_s = time.monotonic() + HEAD_START_S  # one clock for all processes of a machine
        for pipe in self._pipes:
            pipe.send(start_s)
        stopping = asyncio.create_task(self._pass_on(stop))
        try:
            heard = [self._hear(number, on_progress) for number in range(len(self._pipes))]
            return joined(await asyncio.gather(*heard))
        finally:
            stopping.cancel()

    async def _hear(self, number: int, on_progress: Callable[[Progress], None] | None) -> SendResult:
        while True:
            said = await self._next(self._pipes[number])
            if isinstance(said, SendResult):
                return said
            self._latest[number] = said
            if on_progress is not None:
                on_progress(summed(self._latest, said.last_outcomes))

    async def _next(self, pipe: Connection[Any, Any]) -> Any:
        try:
            said = await asyncio.get_running_loop().run_in_executor(self._threads, pipe.recv)
        except (EOFError, OSError):
            line = "--processes: a sending process has ended by itself; nothing was measured"
            raise UsageError(line) from None
        if isinstance(said, UsageError):
            raise said
        return said

    async def _pass_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        for pipe in self._pipes:
            pipe.send("stop")


def _act(pipe: Connection[Any, Any], part: Part) -> None:
    """A sending process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to pass on
    try:
        pipe.send(asyncio.run(_sent(pipe, part)))
    except UsageError as error:
        pipe.send(error)
    except (BrokenPipeError, EOFError):
        return  # nobody wants to know any more


async def _sent(pipe: Connection[Any, Any], part: Part) -> SendResult:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):  # the first process has ended: so does this
            pipe.recv()
        loop.call_soon_threadsafe(stop.set)

    async def started() -> Start:
        pipe.send("connected")
        start_s: float = await asyncio.to_thread(pipe.recv)
        threading.Thread(target=listen, daemon=True).start()
        return Start(start_s, time.time() + start_s - time.monotonic())

    options = replace(part.options, identity=part.who.identity(part.target))
    return await send(part.plan, part.target, options, pipe.send, stop, started)
