"""A comparison's run: installs and starts the peers, measures all of them and this server once a round.

A peer that can't be installed or started is named with the reason, and the others go on. Called by the
command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from bench.peers.catalogue import PEERS, Peer
from bench.peers.environments import installed
from bench.serving.bodies import TEXTS_PER_BATCH, shapes
from bench.serving.cpu import resident_mib, with_children
from bench.serving.figures import load_name, reading
from bench.serving.processes import OWN_PYTHON, BenchError, Child, Server, Worker
from bench.serving.rounds import Reading, Round, orders
from bench.serving.run import FLAGS, WARM_SHARE, benchmark_texts
from bench.serving.shots import Sample, Shot, Target
from bench.serving.texts import SEED
from service.rpc import SERVICE

OWN = "minwatt"
LOADS = (("unary", 1), ("unary", 8), ("unary", 32), ("unary", 64), ("batch16", 8))
_TRIES, _TRY_S = 60, 0.2
_FIRST_CALL_S = 1.0


@dataclass(frozen=True, slots=True)
class Compared:
    """Raw figures, and why a peer is missing."""

    seconds: float
    rounds: Sequence[Round]
    versions: dict[str, str]
    rss_mib: dict[str, float]
    missing: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Running:
    child: Child
    targets: dict[str, Target]  # by shape


def compare(
    model: Path,
    rounds: int,
    seconds: float,
    flags: Sequence[str],
    scratch: Path,
    logs: Path,
    console: Console,
) -> Compared:
    """Raises BenchError and UsageError when this server itself can't be measured."""
    texts = benchmark_texts(model).texts
    text_file = scratch / "texts.txt"
    text_file.write_text("\n".join(texts), encoding="utf-8")
    missing: dict[str, str] = {}
    versions: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        load = Worker("load", [*OWN_PYTHON, "bench.serving.load"], logs / "load.log")
        stack.enter_context(load)
        running = {OWN: _own(model, flags, texts, scratch, logs, stack)}
        for peer in PEERS:
            console.print(f"{peer.name} …", highlight=False)
            try:
                with contextlib.ExitStack() as attempt:
                    started, version = _started(peer, model, text_file, scratch, logs, load, attempt)
                    stack.push(attempt.pop_all())
                running[peer.name], versions[peer.name] = started, version
            except BenchError as error:
                missing[peer.name] = str(error)
                console.print(f"{peer.name}: {error}", style="yellow", markup=False, highlight=False)
        found = [
            _round(order, running, seconds, load, console, number)
            for number, order in enumerate(orders(_names(running), rounds, SEED), 1)
        ]
        rss_mib = {name: resident_mib(with_children([one.child.pid])) for name, one in running.items()}
    return Compared(seconds, found, versions, rss_mib, missing)


def _names(running: dict[str, _Running]) -> list[str]:
    return [load_name(name, *load) for name in running for load in LOADS]


def _own(
    model: Path,
    flags: Sequence[str],
    texts: Sequence[str],
    scratch: Path,
    logs: Path,
    stack: contextlib.ExitStack,
) -> _Running:
    command = [*OWN_PYTHON, "bench.serving.replica", "--marks", str(scratch / "own.marks")]
    command += [f"{name}={value}" for name, value in {"model": str(model), **FLAGS}.items()]
    server = stack.enter_context(Server(OWN, [*command, *flags], logs / "minwatt.log")).ready()
    own = shapes(texts, scratch)
    targets = {
        name: Target(
            "lean",
            server.address,
            f"/{SERVICE}/{own[name].method}",
            own[name].bodies,
            (server.pid,),
            own[name].texts_per_call,
        )
        for name in ("unary", "batch16")
    }
    return _Running(server, targets)


def _started(
    peer: Peer,
    model: Path,
    texts: Path,
    scratch: Path,
    logs: Path,
    load: Worker,
    stack: contextlib.ExitStack,
) -> tuple[_Running, str]:
    environment = installed(peer.name, peer.requirements)
    start = peer.start(environment, model, scratch)
    log = logs / f"{peer.package}.log"
    child = stack.enter_context(Child(peer.name, start.command, log, start.environ))
    targets = {
        name: Target(
            peer.protocol,
            start.address,
            peer.path,
            peer.bodies(environment, texts, size, scratch / f"{peer.package}-{name}.bodies"),
            (child.pid,),
            size,
        )
        for name, size in (("unary", 1), ("batch16", TEXTS_PER_BATCH))
    }
    _answering(child, targets["unary"], load)
    return _Running(child, targets), f"{peer.package} {environment.version(peer.package)}"


def _answering(child: Child, target: Target, load: Worker) -> None:
    """Until a first call is answered. Raises BenchError when none is."""
    shot = Shot(target, concurrency=1, seconds=_TRY_S, warm_s=0.0)
    why = ""
    for _ in range(_TRIES):
        child.check()
        try:
            sample = Sample(**load.ask(**asdict(shot)))
        except BenchError as error:
            why = str(error)
        else:
            if sample.calls and not sample.failures:
                return
            why = f"calls fail: {sample.failures}"
        child.wait(_FIRST_CALL_S)
    raise BenchError(f"does not answer: {why}")


def _round(
    order: Sequence[str],
    running: dict[str, _Running],
    seconds: float,
    load: Worker,
    console: Console,
    number: int,
) -> Round:
    console.print(f"round {number}: {len(order)} measurements …", highlight=False)
    wanted = {load_name(name, *one): (name, *one) for name in running for one in LOADS}
    found: dict[str, Reading] = {}
    for title in order:
        name, shape, concurrency = wanted[title]
        target = running[name].targets[shape]
        shot = Shot(replace(target), concurrency, seconds, WARM_SHARE * seconds)
        sample = Sample(**load.ask(**asdict(shot)))
        if sample.failures:
            console.print(f"{title}: failed calls: {sample.failures}", style="yellow", markup=False)
        found[title] = reading(sample)
    return found
