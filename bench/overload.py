"""What becomes of a replica that is asked for more than it can do.

    python -m bench.overload [--texts 1] [--seconds 4] [--rounds 5] [--slo 100ms] [--front-ends N] [--apart]
        [--paced ALPHA_MS BETA_US]

Starts a real `minwatt serve` with the shipped model (with `--paced`, with an engine that sleeps so long: for
machines that others use too, see `paced_replica`) and measures, round by round: its capacity (a closed loop
of 32 requests), then open-loop Poisson arrivals at 0.5 to 3 times that capacity, in an order that is drawn
anew each round. Machines drift: only ratios of the same round mean anything, so goodput is given relative to
the round's best. Goodput counts answers within the SLO as the client saw them, from the planned time. The
first second of each load is not counted, but for its own p99: there the queue fills. Prints medians and the
range of rounds; raw rows go to out/bench/overload.json.

The client runs on the same cores, and what it computes to send three times as much is lost to the engine.
With `--apart` the replica has one half of the cores and the client the other, as if it were elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.open_loop import End, connected
from bench.serving.http2 import OK
from loadtest.arrivals import draw, flat
from loadtest.plan import Task, payload
from loadtest.texts import packaged_texts
from minwatt.v1.inference_pb2 import ClassifyResponse, Usage
from minwatt.v1.quantities import parse_duration_s

FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0)
CLOSED_LOOP = 32  # requests in flight
PAYLOADS = 200
ONSET_S = 1.0  # of each load, in which the queue fills and admission learns
REFUSED = "8"  # RESOURCE_EXHAUSTED
OUT = Path("out/bench/overload.json")
CORES = sorted(os.sched_getaffinity(0))
METHOD = "/minwatt.v1.TextInference/Classify"


@dataclass(frozen=True, slots=True)
class Row:
    """One factor in one round, without its first second. Latencies of answered requests; None where there
    were none."""

    round: int
    factor: float
    capacity_rps: float
    offered_rps: float
    goodput_rps: float
    answered_rps: float
    refused_fraction: float
    failed_fraction: float
    p99_client_ms: float | None  # from the planned time
    p99_server_ms: float | None  # queue + compute
    onset_p99_server_ms: float | None  # of the first second
    lag_p99_ms: float  # of the sender itself
    batch_texts: float | None


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and where."""

    slo: str
    paced: Sequence[str]  # α in ms, β in µs a token; none: the shipped model
    front_ends: int
    apart: bool  # replica and client each have half of the cores


def keep_apart(setup: Setup, of_replica: bool) -> None:
    """Moves this thread, and what it starts from here on."""
    if setup.apart:
        half = len(CORES) // 2
        os.sched_setaffinity(0, CORES[:half] if of_replica else CORES[half:])


async def replica(setup: Setup) -> tuple[asyncio.subprocess.Process, str]:
    """A warm replica and its address."""
    flags = {"port": "0", "metrics-port": "0", "slo": setup.slo, "front-ends": str(setup.front_ends)}
    flags["max-connection-age"] = "1h"  # the client keeps its connections
    paced = setup.paced
    if paced:
        module = ["bench.paced_replica", *paced, *(f"{name}={value}" for name, value in flags.items())]
    else:
        module = [
            "minwatt",
            "serve",
            *(part for name, value in flags.items() for part in (f"--{name}", value)),
        ]
    command = [sys.executable, "-m", *module]
    keep_apart(setup, of_replica=True)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    keep_apart(setup, of_replica=False)
    if process.stdout is None:
        raise RuntimeError("no pipe to the replica")
    line = (await process.stdout.readline()).decode()
    match = re.match(r"ready: grpc (\S+) ", line)
    if match is None:
        raise RuntimeError(f"the replica did not get ready: {line!r}")
    return process, match[1]


def payloads(texts: int, rng: np.random.Generator) -> list[bytes]:
    sentences = packaged_texts(Task.CLASSIFY) + packaged_texts(Task.EXTRACT)
    return [payload(Task.CLASSIFY, rng.choice(sentences, texts).tolist()).request for _ in range(PAYLOADS)]


def row(round_: int, factor: float, capacity: float, seconds: float, slo_s: float, ends: list[End]) -> Row:
    """Of what was planned once the first second was over, which has a column of its own."""
    usages = [(end, usage(end)) for end in ends if end.status == OK]
    onset_s = [took_s(of) for end, of in usages if end.planned_s < ONSET_S]
    steady = [end for end in ends if end.planned_s >= ONSET_S]
    answered = [(end, of) for end, of in usages if end.planned_s >= ONSET_S]
    refused = sum(end.status == REFUSED for end in steady)
    batches = [of.batch_size for _, of in answered]
    return Row(
        round_,
        factor,
        capacity,
        len(steady) / seconds,
        sum(end.latency_s <= slo_s for end, _ in answered) / seconds,
        len(answered) / seconds,
        refused / max(1, len(steady)),
        (len(steady) - len(answered) - refused) / max(1, len(steady)),
        p99_ms([end.latency_s for end, _ in answered]),
        p99_ms([took_s(of) for _, of in answered]),
        p99_ms(onset_s),
        p99_ms([end.sent_s - end.planned_s for end in steady]) or 0.0,
        float(np.mean(batches)) if batches else None,
    )


def usage(end: End) -> Usage:
    return ClassifyResponse.FromString(end.reply).usage


def took_s(of: Usage) -> float:
    """At the server."""
    return of.queue_seconds + of.compute_seconds


def p99_ms(values_s: Sequence[float]) -> float | None:
    return float(np.percentile(values_s, 99)) * 1e3 if values_s else None


async def measure(texts: int, seconds: float, rounds: int, setup: Setup) -> list[Row]:
    rng, slo_s = np.random.default_rng(0), parse_duration_s(setup.slo)
    process, target = await replica(setup)
    rows = []
    try:
        async with connected(target, METHOD, payloads(texts, rng)) as client:
            await client.closed_loop(CLOSED_LOOP, 2.0)  # warms both
            for round_ in range(rounds):
                capacity = await client.closed_loop(CLOSED_LOOP, seconds / 2)
                for factor in rng.permutation(FACTORS).tolist():
                    planned_s = draw(flat(factor * capacity, ONSET_S + seconds), rng)
                    ends = await client.open_loop(planned_s.tolist())
                    rows.append(row(round_, factor, capacity, seconds, slo_s, ends))
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
    return rows


def table(rows: Sequence[Row], texts: int, slo: str) -> Table:
    best = {
        round_: max(r.goodput_rps for r in rows if r.round == round_) for round_ in {r.round for r in rows}
    }
    shown = Table(title=f"{texts} texts a request, SLO {slo}: median of rounds (least to most)")
    for name in ("× capacity", "offered/s", "goodput/s", "of the best", "refused", "failed", "p99 client ms"):
        shown.add_column(name)
    for name in ("p99 server ms", "in the first second", "sender's lag p99 ms", "texts a batch"):
        shown.add_column(name)
    for factor in FACTORS:
        of = [r for r in rows if r.factor == factor]
        shown.add_row(
            f"{factor:g}",
            spread([r.offered_rps for r in of], "{:.0f}"),
            spread([r.goodput_rps for r in of], "{:.0f}"),
            spread([r.goodput_rps / (best[r.round] or math.inf) for r in of], "{:.2f}"),
            spread([r.refused_fraction for r in of], "{:.0%}"),
            spread([r.failed_fraction for r in of], "{:.1%}"),
            spread([r.p99_client_ms for r in of], "{:.0f}"),
            spread([r.p99_server_ms for r in of], "{:.0f}"),
            spread([r.onset_p99_server_ms for r in of], "{:.0f}"),
            spread([r.lag_p99_ms for r in of], "{:.0f}"),
            spread([r.batch_texts for r in of], "{:.1f}"),
        )
    return shown


def spread(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, middle, high = (form.format(float(v)) for v in (min(known), np.median(known), max(known)))
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slo", default="100ms")
    parser.add_argument("--paced", nargs=2, default=(), metavar=("ALPHA_MS", "BETA_US"))
    parser.add_argument("--front-ends", type=int, default=0)
    parser.add_argument("--apart", action="store_true")
    asked = parser.parse_args()
    if asked.apart and len(CORES) < 2:
        sys.exit("--apart: there is one core; at least two are needed")
    setup = Setup(asked.slo, asked.paced, asked.front_ends, asked.apart)
    rows = asyncio.run(measure(asked.texts, asked.seconds, asked.rounds, setup))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load_1min": os.getloadavg()[0]}
    OUT.write_text(
        json.dumps({"options": vars(asked), "machine": machine, "rows": [asdict(r) for r in rows]}, indent=1)
    )
    Console(width=200).print(table(rows, asked.texts, asked.slo))


if __name__ == "__main__":
    main()
