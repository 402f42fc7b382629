"""What front-end processes cost and gain: the server with a null engine, with none, one and two of them.

    python -m bench.front_ends [--rounds 5] [--seconds 2]

A null engine answers at once, as a card does that is never the bottleneck: what is left is what feeding it
costs. All servers run side by side and take turns, so that only figures of one round are compared. Printed
are medians over the rounds: calls and CPU a call, and how much of it the engine process computes, which is
what bounds a replica that has enough cores for its front ends. Here the load generator, the front ends and
the engine process share the machine's cores: on two of them no gain is to be expected.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import median

import psutil

from bench.serving.bodies import Shape, shapes
from bench.serving.cpu import process_cpu_s, resident_mib, total_cpu_s, with_children
from bench.serving.processes import OWN_PYTHON, Server, Worker
from bench.serving.run import FLAGS, benchmark_texts
from bench.serving.shots import Sample, Shot, Target
from minwatt.resources import default_model_dir
from service.rpc import SERVICE

FRONT_ENDS = (0, 1, 2)
LOADS = (("unary", 8), ("unary", 32), ("batch16", 8))
FIGURES = ("calls/s", "CPU ms a call", "of it the engine process", "p50 ms", "p99 ms")


def engine_pid(pid: int) -> int:
    """The process that computes: the server itself, or its child of that name."""
    children = psutil.Process(pid).children()
    return next((child.pid for child in children if child.name() == "minwatt-engine"), pid)


def measured(server: Server, load: Worker, shape: Shape, concurrency: int, seconds: float) -> list[float]:
    """FIGURES of one shot."""
    family, engine = with_children([server.pid]), engine_pid(server.pid)
    before_s, engine_before_s = total_cpu_s(family), process_cpu_s(engine)
    path = f"/{SERVICE}/{shape.method}"
    target = Target("lean", server.address, path, shape.bodies, (server.pid,), shape.texts_per_call)
    sample = Sample(**load.ask(**asdict(Shot(target, concurrency, seconds, 0.5))))
    if sample.failures:
        raise SystemExit(f"{server.name}: {sample.failures}")
    share = (process_cpu_s(engine) - engine_before_s) / (total_cpu_s(family) - before_s)
    cpu_ms = 1e3 * sample.server_cpu_s / sample.calls
    return [sample.calls_per_s, cpu_ms, cpu_ms * share, sample.p50_ms, sample.p99_ms]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.front_ends", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    flags = [f"{name}={value}" for name, value in {"model": str(default_model_dir()), **FLAGS}.items()]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        sent = shapes(benchmark_texts(default_model_dir()).texts, scratch)
        servers: dict[int, Server] = {}
        for count in FRONT_ENDS:
            marks = scratch / f"marks-{count}"
            command = ["bench.serving.replica", "--marks", str(marks), "--null", *flags]
            name, log = f"{count} front ends", scratch / f"{count}.log"
            server = Server(name, [*OWN_PYTHON, *command, f"front-ends={count}"], log)
            servers[count] = stack.enter_context(server).ready()
        load = stack.enter_context(Worker("load", [*OWN_PYTHON, "bench.serving.load"], scratch / "load.log"))
        found: defaultdict[tuple[str, int, int], list[list[float]]] = defaultdict(list)
        order = [(shape, concurrency, count) for shape, concurrency in LOADS for count in FRONT_ENDS]
        for _ in range(options.rounds):
            random.shuffle(order)
            for shape, concurrency, count in order:
                figures = measured(servers[count], load, sent[shape], concurrency, options.seconds)
                found[shape, concurrency, count].append(figures)
        resident = {count: resident_mib(with_children([server.pid])) for count, server in servers.items()}
    for shape, concurrency in LOADS:
        print(f"{shape}, {concurrency} in flight")  # noqa: T201
        for count in FRONT_ENDS:
            rounds = found[shape, concurrency, count]
            medians = [median(one) for one in zip(*rounds, strict=True)]
            pairs = zip(rounds, found[shape, concurrency, 0], strict=True)
            ratio = median(own[0] / none[0] for own, none in pairs)
            shown = " · ".join(f"{name} {value:.3g}" for name, value in zip(FIGURES, medians, strict=True))
            print(f"  {count} front ends: {shown} · calls/s to none {ratio:.2f}")  # noqa: T201
    for count, mib in resident.items():
        print(f"{count} front ends: {mib:.0f} MiB resident, shared pages counted in each process")  # noqa: T201


if __name__ == "__main__":
    main()
