"""The load generator, a process of its own: closed loops of prepared calls, measured from inside.

    python -m bench.serving.load

Reads shots as JSON lines, answers samples. It reads the server's CPU clocks at the same two instants between
which it counts calls. Started by `run`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from itertools import cycle
from typing import Any

import numpy as np

from bench.serving import http1, http2, stock
from bench.serving.body_files import read_bodies
from bench.serving.cpu import process_cpu_s, total_cpu_s, with_children
from bench.serving.http2 import BROKEN, OK
from bench.serving.marks import read_marks
from bench.serving.shots import CONNECTIONS, Sample, Shot, Target

PATIENCE_S = 60.0  # for the slowest of what is waited for
FEW_MESSAGES = 64  # one call in flight goes over these alone, so that each is sent several times
ID_BYTES = 8
_ID_HEAD = bytes((0x0A, ID_BYTES))  # field 1 of a stream's items: the id
_OUTCOME = 0x12  # field 2: what was answered; an error has another number


class Closed:
    """One closed loop. Calls are counted while `counting`; each answer is followed by the next call."""

    def __init__(self, shot: Shot) -> None:
        self._shot = shot
        messages = _messages(shot.target.bodies, shot.target.protocol == "lean" and not shot.target.stream)
        few = messages[:FEW_MESSAGES] if shot.concurrency == 1 else messages
        self._next = cycle(list(enumerate(few)))
        self._sent: dict[tuple[int, int], tuple[int, float]] = {}
        self._ids = 0
        self._answers = 0
        self._awaited = 0
        self._answered_enough = asyncio.Event()
        self.counting = False
        self.stopping = False
        self.failures: Counter[str] = Counter()
        self.latencies: list[tuple[int, float]] = []
        self.idle = asyncio.Event()

    async def answers(self, count: int) -> None:
        """Until so many more calls have been answered. Raises TimeoutError."""
        self._awaited = self._answers + count
        self._answered_enough.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self._answered_enough.wait()

    def send(self, connection: Any) -> None:
        number, message = next(self._next)
        if self._shot.target.stream:
            ticket = self._ids = self._ids + 1
            item = _ID_HEAD + b"%0*d" % (ID_BYTES, ticket) + message
            self._sent[0, ticket] = (number, time.perf_counter())
            connection.write(http2.framed(item))
            return
        ticket = connection.call(message)
        self._sent[id(connection), ticket] = (number, time.perf_counter())

    def answered(self, connection: Any, ticket: int, status: str, reply: bytes) -> None:
        now_s = time.perf_counter()
        key = (id(connection), ticket)
        if self._shot.target.stream:
            if status != OK:  # the stream itself has ended: with it all that it carried
                self.failures[status] += 1
                self._sent.clear()
                self.idle.set()
                return
            key = (0, int(reply[2 : 2 + ID_BYTES]))
            if reply[2 + ID_BYTES] != _OUTCOME:
                status = "stream error"
        self._answers += 1
        if self._answers == self._awaited:
            self._answered_enough.set()
        number, sent_s = self._sent.pop(key)
        if status != OK:
            self.failures[status] += 1
        elif self.counting:
            self.latencies.append((number, now_s - sent_s))
        if not self.stopping and status != BROKEN:
            self.send(connection)
        elif not self._sent:
            self.idle.set()


async def measure(shot: Shot) -> Sample:
    """Counts for the shot's seconds, and until each slot has been answered once on the average.

    So long queues are counted over whole turns: many calls that wait together are answered together. Raises
    OSError when the target can't be reached or is gone, TimeoutError when it does not answer.
    """
    loop = asyncio.get_running_loop()
    target, closed = shot.target, Closed(shot)
    connections = await _connected(target, shot.concurrency, closed)
    for index in range(shot.concurrency):
        closed.send(connections[index % len(connections)])
    await asyncio.gather(asyncio.sleep(shot.warm_s), closed.answers(shot.concurrency))
    pids, own = with_children(target.pids), os.getpid()
    marked = read_marks(target.marks)
    began_s, server_s, client_s = loop.time(), total_cpu_s(pids), process_cpu_s(own)
    closed.counting = True
    await asyncio.gather(asyncio.sleep(shot.seconds), closed.answers(shot.concurrency))
    closed.counting = False
    ended_s, server_s, client_s = loop.time(), total_cpu_s(pids) - server_s, process_cpu_s(own) - client_s
    marked_then = read_marks(target.marks)
    closed.stopping = True
    async with asyncio.timeout(PATIENCE_S):
        await closed.idle.wait()
    for connection in connections:
        if target.stream:
            connection.end_stream()
        closing = connection.close()
        if closing is not None:
            await closing
    return _sample(
        shot,
        closed,
        seconds=ended_s - began_s,
        server_cpu_s=server_s,
        client_cpu_s=client_s,
        engine_cpu_s=marked_then.engine_cpu_s - marked.engine_cpu_s,
        tokenizer_cpu_s=marked_then.tokenizer_cpu_s - marked.tokenizer_cpu_s,
    )


async def _connected(target: Target, concurrency: int, closed: Closed) -> list[Any]:
    count = concurrency if target.protocol == "http1" else min(CONNECTIONS, concurrency)
    return [await _connection(target, closed) for _ in range(count)]


async def _connection(target: Target, closed: Closed) -> Any:
    if target.protocol == "stock":
        return stock.Connection(target.address, target.path, closed.answered)
    kind = http2.Connection if target.protocol == "lean" else http1.Connection
    host, _, port = target.address.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: kind(target.address, target.path, closed.answered), host, int(port)
    )
    if target.stream and isinstance(connection, http2.Connection):
        connection.open_stream()
    return connection


def _sample(shot: Shot, closed: Closed, **cpu: float) -> Sample:
    latencies_ms = [(number, 1e3 * latency_s) for number, latency_s in closed.latencies]
    times_ms = [latency_ms for _, latency_ms in latencies_ms] or [float("nan")]
    p50_ms, p99_ms = np.quantile(times_ms, (0.5, 0.99))
    return Sample(
        calls=len(latencies_ms),
        failures=dict(closed.failures),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        texts_per_call=shot.target.texts_per_call,
        latencies_ms=latencies_ms if shot.concurrency == 1 else [],
        **cpu,
    )


@lru_cache(maxsize=64)
def _messages(file: str, framed: bool) -> list[bytes]:
    bodies = read_bodies(file)
    return [http2.framed(body) for body in bodies] if framed else bodies


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        target = Target(**asked.pop("target"))
        try:
            answer = asdict(asyncio.run(measure(Shot(target, **asked))))
        except (OSError, RuntimeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the process's answer


if __name__ == "__main__":
    main()
