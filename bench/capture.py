"""What a capture costs the tail: p99 of a replica that captures over that of one that does not.

    python -m bench.capture [--rps 60] [--rounds 5]

Two replicas of the shipped model, each on the same load in turn, in interleaved rounds; latencies are the
server's own (queue and compute) and the sender's. Only the ratios of one run mean anything.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile

import typer

from loadtest.load import LoadOptions, Shape, make_load
from loadtest.outcomes import Outcome, Result
from loadtest.sender import SendOptions, send
from loadtest.summary import percentile_ms


def bench(rps: float = 60.0, rounds: int = 5, seconds: float = 20.0) -> None:
    """Prints a line a round and the medians of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        replicas = [_serve(), _serve("--capture", folder)]
        try:
            targets = [_target(one) for one in replicas]
            ratios = [asyncio.run(_round(targets, rps, seconds, number)) for number in range(rounds)]
        finally:
            for one in replicas:
                one.kill()
                one.wait()
    seen, server = (statistics.median(column) for column in zip(*ratios, strict=True))
    ratio = f"{seen:.3f} seen, {server:.3f} at the server"
    _print(f"median of {rounds} rounds: p99 with capture over without: {ratio}")


async def _round(targets: list[str], rps: float, seconds: float, number: int) -> tuple[float, float]:
    """p99 with over without: from the planned time, and at the server."""
    options = LoadOptions(generate=Shape.POISSON, peak_rps=rps, duration_s=seconds, seed=number)
    p99s = {}
    for target in targets if number % 2 else reversed(targets):  # neither is always the first
        sent = await send(make_load(options).plan, target, SendOptions())
        p99s[target] = _p99s_ms(sent.outcomes)
    (seen, server), (seen_captured, server_captured) = (p99s[target] for target in targets)
    _print(f"round {number + 1}: p99 {seen:.1f} ms, with capture {seen_captured:.1f} ms")
    return seen_captured / seen, server_captured / server


def _p99s_ms(outcomes: list[Outcome]) -> tuple[float, float]:
    completed = [outcome for outcome in outcomes if outcome.result is Result.COMPLETED]
    seen = percentile_ms([outcome.latency_s for outcome in completed], 99.0)
    server = percentile_ms([outcome.server_s or 0.0 for outcome in completed], 99.0)
    return seen or 0.0, server or 0.0


def _serve(*flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "minwatt", "serve", "--port", "0", "--metrics-port", "0", "--slo", "1s"]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)  # noqa: S603


def _target(replica: subprocess.Popen[str]) -> str:
    assert replica.stdout is not None  # noqa: S101 - it is a pipe
    return replica.stdout.readline().split()[2]


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(bench)
