"""A scaler's beat and tick over a real Redis, with a whole fleet that reports each second.

    python -m bench.fleet [--replicas 10000] [--seconds 30]

A redis-server on TCP, two processes that are the replicas (each on a connection of its own: `fleet_load`)
and a scaler (`fleet_scaler`) that looks and decides each second. Prints what its beats took and how much of a
core each process took; writes out/bench/fleet.json; exits 1 if reports were lost, if replicas were not all
seen, or if the scaler's beat and tick took 200 ms (99 of 100) or a whole core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from tests.redis_server import RedisServer, free_port

OUT = Path("out/bench/fleet.json")
FLEET = "bench/support-text"
LOADS = 2  # processes
MOST_BEAT_MS = 200.0
SETTLE_S = 12  # the windows are full then


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - of this project
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next one. Raises RuntimeError when the process has ended."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r}: ended with {process.wait()}")
    return line


def measured(replicas: int, seconds: int) -> dict[str, Any]:
    """Of `seconds` beats, after the windows are full."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port = free_port()
        flags = ("--port", str(port), "--maxclients", "15000")
        redis = psutil.Process(stack.enter_context(RedisServer(Path(folder), *flags)).pid)
        bounds = [replicas * part // LOADS for part in range(LOADS + 1)]
        loads = [
            stack.enter_context(started("bench.fleet_load", str(port), FLEET, str(first), str(last)))
            for first, last in pairwise(bounds)
        ]
        for load in loads:
            line_of(load)
        url = f"redis://127.0.0.1:{port}/0"
        scaler = stack.enter_context(started("bench.fleet_scaler", url, FLEET, str(SETTLE_S + seconds)))
        for _ in range(SETTLE_S):
            line_of(scaler)
        processes = {"scaler": psutil.Process(scaler.pid), "redis": redis}
        processes |= {f"load {number}": psutil.Process(load.pid) for number, load in enumerate(loads)}
        before, began_s = _cpu_s(processes), time.monotonic()
        beats = [json.loads(line_of(scaler)) for _ in range(seconds)]
        after, took_s = _cpu_s(processes), time.monotonic() - began_s
    cores = {name: (after[name] - before[name]) / took_s for name in processes}
    return {"replicas": replicas, "seconds": took_s, "cores": cores, "beats": beats}


def _cpu_s(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}


def percentiles_ms(beats: Sequence[Mapping[str, Any]], *names: str) -> tuple[float, float]:
    """p50 and p99 of the first, less the others."""
    first, *others = names
    values = [beat[first] - sum(beat[other] for other in others) for beat in beats]
    p50, p99 = np.percentile(np.array(values) * 1e3, (50, 99))
    return float(p50), float(p99)


def main(
    replicas: Annotated[
        list[int] | None, typer.Option(help="Sizes of the fleet. [default: 100, 10000]")
    ] = None,
    seconds: Annotated[int, typer.Option(help="Beats that are measured.", min=5)] = 30,
) -> None:
    """A scaler's beat and tick over Redis. Example: python -m bench.fleet --replicas 10000 --seconds 60"""
    console = Console()
    runs = [measured(size, seconds) for size in replicas or [100, 10_000]]
    table = Table(
        "replicas", "", "p50 ms", "p99 ms", title=f"a beat and tick through Redis; {os.cpu_count()} cores"
    )
    faults = []
    for run in runs:
        beats, size = run["beats"], run["replicas"]
        rows = {
            "beat and tick": percentiles_ms(beats, "beat_s"),
            "of it: collect": percentiles_ms(beats, "collect_s"),
            "of it: signals and decision": percentiles_ms(beats, "beat_s", "collect_s"),
            "CPU of it": percentiles_ms(beats, "beat_cpu_s"),
            "CPU of collect": percentiles_ms(beats, "collect_cpu_s"),
        }
        run["milliseconds"] = {name: {"p50": p50, "p99": p99} for name, (p50, p99) in rows.items()}
        for name, (p50, p99) in rows.items():
            table.add_row(f"{size:,}", name, f"{p50:.1f}", f"{p99:.1f}")
        for name, cores in run["cores"].items():
            table.add_row(f"{size:,}", f"{name}: cores", f"{cores:.3f}", "")
        heard = sum(beat["reports"] for beat in beats) / (size * run["seconds"])
        run["heard_share"] = heard
        table.add_row(f"{size:,}", "reports heard", f"{heard:.1%}", "")
        problems = {beat["problem"] for beat in beats if beat["problem"]}
        ready = min(beat["ready"] for beat in beats)
        if problems or ready != size or not 0.95 < heard < 1.05:
            faults.append(f"{size} replicas: {ready} seen, {heard:.1%} of reports, problems: {problems}")
        if rows["beat and tick"][1] >= MOST_BEAT_MS or run["cores"]["scaler"] >= 1.0:
            faults.append(f"{size} replicas: a beat and tick of {rows['beat and tick'][1]:.0f} ms")
    console.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"cores_there": os.cpu_count(), "runs": runs}, indent=1))
    console.print(f"written: {OUT}")
    for fault in faults:
        console.print(fault, style="red")
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(main)
