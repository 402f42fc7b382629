"""A benchmark's run: starts servers and workers, measures everything once a round, stops them.

Called by the command. What the readings mean is `figures`' matter.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console

from bench.serving import echo
from bench.serving.bodies import Shape, shapes
from bench.serving.body_files import read_bodies
from bench.serving.cpu import machine_busy_s, resident_mib, total_cpu_s, with_children
from bench.serving.figures import (
    MACHINE,
    OVERHEAD,
    SERVERS,
    SHAPES,
    SINGLE,
    ceiling_name,
    load_name,
    reading,
    to_engine,
    with_split,
)
from bench.serving.modes import MODES
from bench.serving.processes import OWN_PYTHON, Server, Worker
from bench.serving.rounds import Reading, Round, orders
from bench.serving.shots import CONCURRENCIES, Protocol, Sample, Shot, Target
from bench.serving.texts import MOST_TOKENS, SEED, mixed_texts
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from service.rpc import SERVICE
from service.tokenize import TextTokenizer

TEXTS = 2048
WARM_SHARE = 0.25  # of the counted seconds, before them
STOCK_CONCURRENCIES = (8, 32)
FLAGS = {
    "port": "0",
    "metrics-port": "0",
    "max-queue-texts": "4096",  # 64 calls of 16 texts wait at a time: more than a replica takes by default
    "max-connection-age": "1h",  # the load does not connect anew within a measurement
    "slo": "10s",  # nor refused because it would wait for the others: the loads are closed loops
    "default-deadline": "10m",  # no call is lost to a machine that is busy
}
_METRICS = ("minwatt_tokens_total", "minwatt_padded_tokens_total")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    model: Path
    rounds: int = 5
    seconds: float = 1.0
    concurrencies: tuple[int, ...] = CONCURRENCIES
    flags: tuple[str, ...] = ()

    @classmethod
    def quick(cls, model: Path) -> Plan:
        return cls(model, rounds=2, seconds=0.1, concurrencies=(1, 8))

    def with_counts(self, rounds: int | None, seconds: float | None) -> Plan:
        return replace(self, rounds=rounds or self.rounds, seconds=seconds or self.seconds)

    def with_flags(self, flags: Sequence[str]) -> Plan:
        return replace(self, flags=tuple(flags))

    @property
    def names(self) -> list[str]:
        """Of all that is measured in a round."""
        loads = [load_name(*load) for load in _product(SERVERS, SHAPES, self.concurrencies)]
        stock = [load_name("stock", "unary", c) for c in STOCK_CONCURRENCIES if c in self.concurrencies]
        return [*loads, *stock, *(ceiling_name(mode.name) for mode in MODES), SINGLE, OVERHEAD]


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's raw figures."""

    plan: Plan
    rounds: Sequence[Round]
    rss_mib: float
    token_quantiles: Mapping[str, float]
    message_bytes: Mapping[str, float]


def measure(plan: Plan, scratch: Path, logs: Path, console: Console) -> Iterator[Measured]:
    """What is known after each round. Raises BenchError and UsageError when something can't be started."""
    drawn = benchmark_texts(plan.model)
    sent = shapes(drawn.texts, scratch)
    text_file = scratch / "texts.txt"
    text_file.write_text("\n".join(drawn.texts), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        bench = _Bench(plan, sent, text_file, scratch, logs, stack, console)
        rounds: list[Round] = []
        for number, order in enumerate(orders(plan.names, plan.rounds, SEED), 1):
            console.print(f"round {number} of {plan.rounds}: {len(order)} measurements …", highlight=False)
            rounds.append(bench.round(order))
            yield Measured(
                plan,
                rounds,
                resident_mib(with_children([bench.servers["model"].pid])),
                {f"p{q}": float(drawn.lengths[q * len(drawn.lengths) // 100]) for q in (1, 50, 90, 99)},
                {name: median(map(len, read_bodies(shape.bodies))) for name, shape in sent.items()},
            )


class _Bench:
    """The processes of a run."""

    def __init__(
        self,
        plan: Plan,
        sent: Mapping[str, Shape],
        texts: Path,
        scratch: Path,
        logs: Path,
        stack: contextlib.ExitStack,
        console: Console,
    ) -> None:
        self._plan = plan
        self._console = console
        self._sent = sent
        self._scratch = scratch

        def started(kind: Callable[..., Any], name: str, *command: str) -> Any:
            return stack.enter_context(kind(name, [*OWN_PYTHON, *command], logs / f"{name}.log"))

        flags = [f"{name}={value}" for name, value in {"model": str(plan.model), **FLAGS}.items()]
        flags += plan.flags
        replica = "bench.serving.replica"
        model: Server = started(Server, "model", replica, "--marks", self._marks("model"), *flags)
        null: Server = started(Server, "null", replica, "--marks", self._marks("null"), "--null", *flags)
        bare: Server = started(Server, "echo", "bench.serving.echo")
        front: Server = started(Server, "front", "bench.serving.front_echo")
        self.servers = {
            "model": model.ready(),
            "null": null.ready(),
            "front": front.ready(),
            "echo": bare.ready(),
        }
        self._load: Worker = started(Worker, "load", "bench.serving.load")
        ceiling = ("bench.serving.ceiling", "--model", str(plan.model), "--texts", str(texts))
        self._ceiling: Worker = started(Worker, "ceiling", *ceiling)
        self._overhead: Worker = started(
            Worker, "overhead", "bench.serving.overhead", "--model", str(plan.model)
        )

    def _marks(self, server: str) -> str:
        return str(self._scratch / f"{server}.marks")

    def round(self, order: Sequence[str]) -> Round:
        """Measures everything in this order."""
        loads = {
            load_name(*load): load for load in _product((*SERVERS, "stock"), SHAPES, self._plan.concurrencies)
        }
        modes = {ceiling_name(mode.name): mode.name for mode in MODES}
        found: dict[str, Reading] = {}
        latencies_ms: list[tuple[int, float]] = []
        engine_ms: dict[int, float] = {}
        own = with_children([os.getpid()])
        began_s, busy_s, own_s = time.monotonic(), machine_busy_s(), total_cpu_s(own)
        for name in order:
            if name in loads:
                sample, found[name] = self._loaded(*loads[name])
                if name == load_name("model", "unary", 1):
                    latencies_ms = sample.latencies_ms
            elif name in modes:
                found[name] = self._ceiling.ask(mode=modes[name], seconds=self._plan.seconds)
            elif name == SINGLE:
                answer = self._ceiling.ask(mode="", seconds=self._plan.seconds)
                engine_ms = {int(number): taken for number, taken in answer["engine_ms"].items()}
            else:
                found[name] = self._overhead.ask(seconds=self._plan.seconds)
        cores_s = (time.monotonic() - began_s) * (psutil.cpu_count() or 1)
        others_s = machine_busy_s() - busy_s - (total_cpu_s(own) - own_s)
        found[MACHINE] = {"others_fraction": max(0.0, others_s / cores_s)}
        quotient = to_engine(latencies_ms, engine_ms)
        if quotient is not None:
            found[SINGLE] = {"engine_p50_ms": median(engine_ms.values()), "latency_to_engine": quotient}
        return with_split(found)

    def _loaded(self, server: str, shape_name: str, concurrency: int) -> tuple[Sample, Reading]:
        shape = self._sent[shape_name]
        protocol: Protocol = "stock" if server == "stock" else "lean"
        asked = self.servers["model" if server == "stock" else server]
        path = f"/{SERVICE}/{shape.method}"
        if server in ("front", "echo"):
            path = echo.STREAM if shape.stream else echo.UNARY
        target = Target(
            protocol,
            asked.address,
            path,
            shape.bodies,
            (asked.pid,),
            shape.texts_per_call,
            shape.stream,
            self._marks(asked.name) if asked.metrics_url else "",
        )
        shot = Shot(target, concurrency, self._plan.seconds, WARM_SHARE * self._plan.seconds)
        before = _tokens(asked.metrics_url)
        sample = Sample(**self._load.ask(**asdict(shot)))
        after = _tokens(asked.metrics_url)
        if sample.failures:
            name = load_name(server, shape_name, concurrency)
            self._console.print(f"{name}: failed calls: {sample.failures}", style="red", markup=False)
        return sample, reading(sample, *(now - then for now, then in zip(after, before, strict=True)))


@dataclass(frozen=True, slots=True)
class Texts:
    """What is sent, and how many tokens that is, in order of length."""

    texts: list[str]
    lengths: list[int]


def benchmark_texts(model: Path) -> Texts:
    """The same texts for the same model. Raises UsageError when it can't be read."""
    directory = ModelDirectory.open(model)
    tokenizer = TextTokenizer(directory.tokenizer_file(), directory.spec.max_tokens)

    def tokens(text: str) -> int:
        encoded = tokenizer.encode([text], truncate=True)
        if not isinstance(encoded, list):
            raise UsageError(f"{model}: a text of the benchmark {encoded.length}")
        return len(encoded[0])

    texts = mixed_texts(TEXTS, tokens, min(MOST_TOKENS, directory.spec.max_tokens))
    return Texts(texts, sorted(map(tokens, texts)))


def _tokens(metrics_url: str) -> tuple[float, float]:
    """What a server says it has computed: tokens, and tokens with padding. Zeros where it says nothing."""
    if not metrics_url:
        return 0.0, 0.0
    with urllib.request.urlopen(metrics_url, timeout=10) as reply:  # noqa: S310 - our own server
        lines = reply.read().decode().splitlines()
    values = {name: value for name, _, value in (line.rpartition(" ") for line in lines)}
    tokens, padded = (float(values[name]) for name in _METRICS)
    return tokens, padded


def _product(
    servers: Sequence[str], kinds: Sequence[str], concurrencies: Sequence[int]
) -> list[tuple[str, str, int]]:
    return [(server, kind, c) for server in servers for kind in kinds for c in concurrencies]
