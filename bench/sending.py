"""How much of a bare client's rate the replayer keeps, against a server that does nothing.

    python -m bench.sending [--processes 2]

A bare `grpc.aio` loop sends waves of calls over the same connections and records nothing. The replayer is
given half as much again as that loop has done, and what it keeps is counted. Only the ratios of one run mean
anything.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np
import typer

from loadtest.identity import IdentityOptions
from loadtest.plan import Plan, Task, payload
from loadtest.sender import SendOptions, SendResult, send
from loadtest.senders import send_by_processes
from minwatt.channels import CHANNEL_OPTIONS
from minwatt.v1.inference_pb2 import ClassifyResponse, Usage

METHOD = "/minwatt.v1.TextInference/Classify"
CONNECTIONS = 16
CALLERS = 128  # calls of the bare loop in flight
REQUEST = payload(Task.CLASSIFY, ["where is my card? it should have come last week"])
REPLY = ClassifyResponse(usage=Usage(tokens=12, batch_size=1)).SerializeToString()


def bench(processes: int = 1, rounds: int = 5, seconds: float = 4.0) -> None:
    """Prints a line a round and the medians."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    target = ours.recv()
    ratios = []
    try:
        for number in range(rounds):
            bare_rps = asyncio.run(_bare(target, seconds))
            sent = asyncio.run(_replayed(target, 1.5 * bare_rps * processes, seconds, processes))
            kept_rps = _rate(sent)
            ratios.append(kept_rps / bare_rps)
            rates = f"bare {bare_rps:,.0f} a second, replayer {kept_rps:,.0f}"
            _print(f"round {number + 1}: {rates}: {ratios[-1]:.2f}")
    finally:
        server.kill()
    median = statistics.median(ratios)
    _print(f"median of {rounds} rounds, {processes} processes: {median:.2f} of the bare loop")


async def _bare(target: str, seconds: float) -> float:
    """Answers a second."""
    channels = [grpc.aio.insecure_channel(target, CHANNEL_OPTIONS) for _ in range(CONNECTIONS)]
    calls: list[Any] = [channel.unary_unary(METHOD) for channel in channels]
    for call in calls:
        await call(REQUEST.request)
    begun_s, done = time.monotonic(), 0
    while time.monotonic() < begun_s + seconds:
        # A wave at a time: calls that begin together cost less than as many that begin one by one.
        wave = (calls[number % CONNECTIONS](REQUEST.request, timeout=10.0) for number in range(CALLERS))
        await asyncio.gather(*wave)
        done += CALLERS
    took_s = time.monotonic() - begun_s
    for channel in channels:
        await channel.close()
    return done / took_s


async def _replayed(target: str, rate_rps: float, seconds: float, processes: int) -> SendResult:
    planned_s = np.arange(0, seconds, 1 / rate_rps)
    plan = Plan(planned_s, np.zeros(len(planned_s), np.intp), [REQUEST], seconds)
    options = SendOptions(deadline_s=60.0, connections=CONNECTIONS, max_outstanding=CALLERS * processes)
    if processes == 1:
        return await send(plan, target, options)
    return await send_by_processes(plan, target, options, IdentityOptions(), processes)


def _rate(result: SendResult) -> float:
    last_s = max(outcome.planned_s + outcome.latency_s for outcome in result.outcomes)
    return len(result.outcomes) / last_s


def _serve(pipe: Connection[Any, Any]) -> None:
    """A server that answers the same bytes to whatever comes."""

    async def serve() -> None:
        async def answer(_request: bytes, _context: object) -> bytes:
            return REPLY

        server = grpc.aio.server()
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Classify": grpc.unary_unary_rpc_method_handler(answer)
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("minwatt.v1.TextInference", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    asyncio.run(serve())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(bench)
