"""What a capture costs the tail: p99 of a replica that captures over that of one that does not.

    python -m bench.capture [--rps 60] [--rounds 6]

Three replicas of the shipped model take the same load in turn, in an order that rotates: one captures, two do
not. How far those two differ is how far the first may differ by chance. Only the ratios of one run mean
anything.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile

import typer

from loadtest.load import LoadOptions, Shape, make_load
from loadtest.outcomes import Result
from loadtest.sender import SendOptions, send
from loadtest.summary import percentile_ms


def bench(rps: float = 60.0, rounds: int = 6, seconds: float = 20.0) -> None:
    """Prints a line a round and the medians of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        replicas = [_serve(), _serve("--capture", folder), _serve()]
        try:
            targets = [_target(one) for one in replicas]
            asyncio.run(_round(targets, rps, 2.0, 0))  # nobody is the first
            p99s_ms = [asyncio.run(_round(targets, rps, seconds, number)) for number in range(rounds)]
        finally:
            for one in replicas:
                one.kill()
                one.wait()
    for number, (without_ms, with_ms, again_ms) in enumerate(p99s_ms):
        others = f"without {without_ms:.1f} and {again_ms:.1f} ms"
        _print(f"round {number + 1}: p99 with capture {with_ms:.1f} ms, {others}")
    captured = statistics.median(2 * one[1] / (one[0] + one[2]) for one in p99s_ms)
    chance = statistics.median(one[2] / one[0] for one in p99s_ms)
    ratios = f"with over without {captured:.3f}, without over without {chance:.3f}"
    _print(f"median of {rounds} rounds, p99: {ratios}")


async def _round(targets: list[str], rps: float, seconds: float, number: int) -> list[float]:
    """Milliseconds at the server (queue and compute), p99 of each."""
    options = LoadOptions(generate=Shape.POISSON, peak_rps=rps, duration_s=seconds, seed=number)
    p99s_ms = [0.0] * len(targets)
    for place in range(len(targets)):
        turn = (place + number) % len(targets)
        sent = await send(make_load(options).plan, targets[turn], SendOptions())
        server_s = [one.server_s or 0.0 for one in sent.outcomes if one.result is Result.COMPLETED]
        p99s_ms[turn] = percentile_ms(server_s, 99.0) or 0.0
    return p99s_ms


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
