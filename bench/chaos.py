"""Replicas stop and start, over and over, while a client that retries keeps asking: no request may fail.

    python -m bench.chaos [--stops 1000] [--addresses] [--model DIR] [--front-ends N]

Some replicas of a tiny model, or of --model, serve one shared port or, with --addresses, a port each. All but
one at a time are stopped (SIGTERM, some SIGKILL) and started again, until that has happened --stops times.
With --front-ends as many lose a front end or their engine process before, which must be replaced. Meanwhile
requests leave at a fixed rate, unary and on a stream, and each answer is compared with the right one. Prints
what happened and why requests were sent again; writes out/chaos/chaos.json; exits 1 if a request failed or
was answered wrongly, or if a replica did not start, or did not end well when asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import minwatt
from bench.questions import Question, questions
from bench.working_copy import WorkingCopy
from tests.e2e.replica_process import ReplicaProcess

OUT = Path("out/chaos/chaos.json")
HOST = "127.0.0.1"
QUESTIONS = 64
OUTSTANDING = 64  # requests sent and not answered
READY_AGAIN = "ready: grpc"  # says an engine process that was started anew, in the log
REPLACED_S = 60.0  # a process of a replica by another one


@dataclass(frozen=True, slots=True)
class Plan:
    stops: int
    replicas: int
    addresses: bool  # a port each, instead of one for all
    front_ends: int  # processes of each replica; 0: none of their own
    kill_share: float  # of the stops: SIGKILL, and of replicas that lose a process before
    rate_rps: float
    deadline_s: float
    seed: int


@dataclass(slots=True)
class Outcome:
    """What happened; `failures` and `faults` are empty in a good run."""

    requests: int = 0
    stops: Counter[str] = field(default_factory=Counter)  # by signal
    processes_killed: Counter[str] = field(default_factory=Counter)  # of replicas that went on, by name
    failures: Counter[str] = field(default_factory=Counter)  # requests without a right answer, by cause
    faults: Counter[str] = field(default_factory=Counter)  # of replicas
    retries: dict[str, int] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.failures and not self.faults


class Replicas:
    """Slots that each hold one running replica."""

    def __init__(self, plan: Plan, model: Path, outcome: Outcome) -> None:
        self._model = model
        self._outcome = outcome
        self._draw = random.Random(plan.seed)
        self._kill_share = plan.kill_share
        self._front_ends = plan.front_ends
        self._losses_due = 0.0  # processes that replicas are to lose and replace
        self._next_lost = itertools.cycle(("minwatt-engine", "minwatt-front"))
        self._holders = [_held_port() for _ in range(plan.replicas if plan.addresses else 1)]
        ports = [int(holder.getsockname()[1]) for holder in self._holders]
        self.target = ",".join(f"{HOST}:{port}" for port in ports)
        self._ports = [ports[slot % len(ports)] for slot in range(plan.replicas)]
        self._running: list[ReplicaProcess | None] = [None] * plan.replicas

    async def start(self, slot: int) -> None:
        # Reused, though held by a port of its own: the holder only keeps others from taking it meanwhile.
        flags = ("--port", str(self._ports[slot]), "--reuse-port", "--front-ends", str(self._front_ends))
        process = ReplicaProcess(self._model, *flags)
        self._running[slot] = process
        await asyncio.to_thread(process.ready)

    async def stop(self, slot: int) -> None:
        """By a signal drawn at random; a SIGTERM must end it with code 0."""
        process = self._running[slot]
        if process is None:
            return
        self._losses_due += self._kill_share
        if self._front_ends and self._losses_due >= 1:
            self._losses_due -= 1
            name = next(self._next_lost)
            self._outcome.processes_killed[name] += 1
            await asyncio.to_thread(_replaced, process, name, self._draw.choice(process.children(name)))
        number = signal.SIGKILL if self._draw.random() < self._kill_share else signal.SIGTERM
        process.process.send_signal(number)
        code = await asyncio.to_thread(process.wait)
        self._outcome.stops[number.name] += 1
        expected = 0 if number is signal.SIGTERM else -signal.SIGKILL
        if code != expected:
            self._outcome.faults[f"{number.name}: exit code {code}"] += 1
            Console(stderr=True).print(process.stderr, markup=False)
        process.__exit__(None, None, None)
        self._running[slot] = None

    def close(self) -> None:
        for process in self._running:
            if process is not None:
                process.__exit__(None, None, None)
        for holder in self._holders:
            holder.close()


def _replaced(replica: ReplicaProcess, name: str, pid: int) -> None:
    """One of its processes is killed, and another one is at work. Raises TimeoutError if there is none."""
    before, ready_before = len(replica.children(name)), replica.stderr.count(READY_AGAIN)
    os.kill(pid, signal.SIGKILL)
    limit_s = time.monotonic() + REPLACED_S
    while time.monotonic() < limit_s:
        time.sleep(0.05)
        now = replica.children(name)
        works = name != "minwatt-engine" or replica.stderr.count(READY_AGAIN) > ready_before
        if pid not in now and len(now) == before and works:
            return
    raise TimeoutError(f"{name} was not replaced")


def _held_port() -> socket.socket:
    """A free port, kept so by a socket that is bound and doesn't listen."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((HOST, 0))
    return holder


async def run(plan: Plan, model: WorkingCopy) -> Outcome:
    """Raises nothing for what goes wrong: the outcome says it."""
    outcome = Outcome()
    replicas = Replicas(plan, model.path, outcome)
    try:
        await asyncio.gather(*(replicas.start(slot) for slot in range(plan.replicas)))
        async with minwatt.AsyncClient(replicas.target, timeout_s=plan.deadline_s) as client:
            asked = await questions(client, model.any_text, QUESTIONS, plan.seed)
            stopping = asyncio.Event()
            load = asyncio.create_task(_load(client, asked, plan, outcome, stopping))
            try:
                await _stop_and_start(replicas, plan, outcome)
            finally:
                stopping.set()
                await load
            outcome.retries = client.retries
    finally:
        replicas.close()
    return outcome


async def _stop_and_start(replicas: Replicas, plan: Plan, outcome: Outcome) -> None:
    """All slots but one at a time, each in a loop of its own; which one rests changes by itself."""
    slots: asyncio.Queue[int] = asyncio.Queue()
    for slot in range(plan.replicas):
        slots.put_nowait(slot)
    left = iter(range(plan.stops))

    async def cycles() -> None:
        for _ in left:
            slot = await slots.get()
            try:
                await replicas.stop(slot)
                await replicas.start(slot)
            except Exception as error:  # a replica that can't be had is a finding, and the run goes on
                outcome.faults[f"start: {type(error).__name__}: {error}"[:200]] += 1
            slots.put_nowait(slot)

    await asyncio.gather(*(cycles() for _ in range(plan.replicas - 1)))


async def _load(
    client: minwatt.AsyncClient, asked: list[Question], plan: Plan, outcome: Outcome, stopping: asyncio.Event
) -> None:
    """Until told to stop and all is answered; at the rate planned, or as much of it as OUTSTANDING allows.

    On a machine short of CPU, requests that this process could not even send would say nothing of replicas.
    """
    start_s, room = time.monotonic(), asyncio.Semaphore(OUTSTANDING)
    async with client.classify_stream() as stream, asyncio.TaskGroup() as under_way:
        while not stopping.is_set():
            await room.acquire()
            one = _one(client, stream, asked[outcome.requests % len(asked)], outcome.requests, outcome)
            under_way.create_task(one).add_done_callback(lambda _: room.release())
            outcome.requests += 1
            wait_s = start_s + outcome.requests / plan.rate_rps - time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), max(0.0, wait_s))


async def _one(
    client: minwatt.AsyncClient,
    stream: minwatt.RequestStream[minwatt.Classification],
    question: Question,
    index: int,
    outcome: Outcome,
) -> None:
    start_s = time.monotonic()
    try:
        match index % 5:
            case 0 | 1:
                right = question.labelled(await client.classify(question.texts))
            case 2 | 3:
                right = question.extracted(await client.extract_entities(question.texts))
            case _:
                right = question.labelled(await (await stream.send(question.texts)))
    except Exception as error:  # whatever it is, the application would have seen it
        code = error.code if isinstance(error, minwatt.RequestFailed) else type(error).__name__
        outcome.failures[f"{code}: {' '.join(str(error).split())}"[:200]] += 1
    else:
        if not right:
            outcome.failures["a wrong answer"] += 1
        outcome.latencies_s.append(time.monotonic() - start_s)


def show(outcome: Outcome, took_s: float) -> None:
    table = Table("what", "how many", title=f"chaos: {took_s:.0f} s")
    rate_rps = outcome.requests / took_s
    rows: list[tuple[str, object]] = [("requests", f"{outcome.requests:,} ({rate_rps:.0f} a second)")]
    rows += [(f"replicas stopped by {name}, and started", count) for name, count in outcome.stops.items()]
    rows += [(f"{name} killed, and replaced", count) for name, count in outcome.processes_killed.items()]
    rows += [(f"sent again after {code}", count) for code, count in outcome.retries.items()]
    if outcome.latencies_s:
        p50, p99, most = np.quantile(outcome.latencies_s, [0.5, 0.99, 1.0]) * 1e3
        rows.append(("latency p50 / p99 / longest", f"{p50:.1f} / {p99:.1f} / {most:.0f} ms"))
    rows += [(f"FAILED: {cause}", count) for cause, count in outcome.failures.items()]
    rows += [(f"REPLICA FAULT: {cause}", count) for cause, count in outcome.faults.items()]
    rows.append(("failed requests", sum(outcome.failures.values())))
    for what, count in rows:
        table.add_row(what, str(count))
    Console().print(table)


def write(plan: Plan, outcome: Outcome, took_s: float, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    happened = {item.name: getattr(outcome, item.name) for item in fields(outcome)}
    happened["latencies_s"] = [round(latency_s, 5) for latency_s in outcome.latencies_s]
    path.write_text(json.dumps({"plan": asdict(plan), "took_s": round(took_s, 3), **happened}) + "\n")


def main(
    stops: Annotated[int, typer.Option(min=1, help="Stops and starts of a replica.")] = 1000,
    replicas: Annotated[int, typer.Option(min=2, help="Replicas; one is always left alone.")] = 3,
    addresses: Annotated[bool, typer.Option("--addresses", help="A port each, not one for all.")] = False,
    model: Annotated[
        Path | None, typer.Option(help="A model directory, of which a copy is served. [default: a tiny one]")
    ] = None,
    front_ends: Annotated[int, typer.Option(min=0, help="Front-end processes a replica; 0: none.")] = 0,
    kill_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="SIGKILL's share of the stops."),
    ] = 0.1,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    deadline: Annotated[float, typer.Option(min=0.1, help="Of a request, in seconds.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = OUT,
) -> None:
    """Stops and starts replicas under load and counts failed requests; exits 1 if there is one."""
    plan = Plan(stops, replicas, addresses, front_ends, kill_share, rate, deadline, seed)
    start_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no replica is left behind
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(run(plan, WorkingCopy.of(model, Path(folder))))
    took_s = time.monotonic() - start_s
    write(plan, outcome, took_s, out)
    show(outcome, took_s)
    sys.exit(0 if outcome.good else 1)


if __name__ == "__main__":
    typer.run(main)
