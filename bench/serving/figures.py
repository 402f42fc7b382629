"""From rounds to the figures that are reported: what each load got, and the ratios that are aimed for.

Pure. Called by `run`; `report` shows what is made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.serving.modes import MODES
from bench.serving.rounds import Figure, Reading, Round, Spread, of_rounds, same_round_ratio, steadiest_best
from bench.serving.shots import Sample

SHAPES = ("unary", "batch16", "stream")
SERVERS = ("model", "null", "front", "echo")
SINGLE, OVERHEAD, MACHINE = "single text", "batcher overhead", "machine"
TEXTS = "texts_per_s"
CPU = "server_cpu_ms"


def load_name(server: str, shape: str, concurrency: int) -> str:
    return f"{server} {shape} c{concurrency}"


def ceiling_name(mode: str) -> str:
    return f"ceiling: {mode}"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ratio should be, from the project's own list."""

    ratio: str
    meaning: str
    least: float = -math.inf
    most: float = math.inf

    def met(self, value: float) -> bool:
        return self.least <= value <= self.most

    @property
    def text(self) -> str:
        return f"≥ {self.least:g}" if self.least > -math.inf else f"≤ {self.most:g}"


AIMS = (
    Aim("unary_c8_to_ceiling", "texts/s, one text a call, 8 in flight, to the ceiling", least=0.85),
    Aim("unary_c32_to_ceiling", "the same, 32 in flight", least=0.85),
    Aim("unary_c64_to_ceiling", "the same, 64 in flight", least=0.85),
    Aim("batch16_to_ceiling", "texts/s, 16 texts a call, 8 in flight, to the ceiling", least=0.95),
    Aim("latency_c1_to_engine", "latency, one call in flight, to the engine's time of that text", most=1.4),
    Aim("null_cpu_to_echo", "server CPU a call, null engine, 8 in flight, to the bare echo", most=0.6),
)
PADDING_AIM = Aim("padding_fraction", "of computed tokens, all loads with the model", most=0.1)
RSS_AIM = Aim("rss_mib", "resident, the replica with the model", most=250.0)
OVERHEAD_AIM = Aim("batcher_overhead_p99_us", "null engine, one request in flight", most=100.0)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the rounds say. Keys of `ratios` are the aims'."""

    best_mode: str
    ratios: Mapping[str, Spread]
    padding_fraction: Spread | None
    overhead_p99_us: Spread | None
    others_fraction: Spread | None  # of the cores, that other programs took meanwhile


def reading(sample: Sample, tokens: float = 0.0, padded_tokens: float = 0.0) -> Reading:
    """A sample's figures; times of CPU a call. `tokens`: what the server computed meanwhile, warm-up too.

    Where calls failed there are none: a rate of refusals is no rate.
    """
    if sample.failures or not sample.calls:
        return {"failures": float(sum(sample.failures.values()))}

    def a_call_ms(cpu_s: float) -> float:
        return 1e3 * cpu_s / sample.calls

    return {
        "calls_per_s": sample.calls_per_s,
        TEXTS: sample.texts_per_s,
        "p50_ms": sample.p50_ms,
        "p99_ms": sample.p99_ms,
        CPU: a_call_ms(sample.server_cpu_s),
        "engine_cpu_ms": a_call_ms(sample.engine_cpu_s),
        "tokenizer_cpu_ms": a_call_ms(sample.tokenizer_cpu_s),
        "client_cpu_ms": a_call_ms(sample.client_cpu_s),
        "tokens": tokens,
        "padded_tokens": padded_tokens,
    }


def failures(rounds: Sequence[Round]) -> dict[str, int]:
    """How many calls failed, by measurement."""
    found: dict[str, int] = {}
    for one in rounds:
        for name, values in one.items():
            if "failures" in values:
                found[name] = found.get(name, 0) + int(values["failures"])
    return found


def to_engine(latencies_ms: Iterable[tuple[int, float]], engine_ms: Mapping[int, float]) -> float | None:
    """The median quotient of a call's latency and the engine's own time for the same text."""
    quotients = [taken / engine_ms[number] for number, taken in latencies_ms if number in engine_ms]
    return median(quotients) if quotients else None


def with_split(one: Round) -> dict[str, Reading]:
    """Adds to each load of a minwatt server what of its CPU is RPC and what is the rest.

    RPC is what the server's own front end took to send the same messages back, in the same round; the rest is
    the remainder.
    """
    split: dict[str, Reading] = {}
    for name, found in one.items():
        server, _, load = name.partition(" ")
        rpc = one.get(f"front {load}", {}).get(CPU)
        if server in ("model", "null") and rpc is not None and CPU in found:
            rest = found[CPU] - found["engine_cpu_ms"] - found["tokenizer_cpu_ms"] - rpc
            found = {**found, "rpc_cpu_ms": rpc, "rest_cpu_ms": rest}
        split[name] = found
    return split


def summarise(rounds: Sequence[Round]) -> Summary:
    """Ratios that could not be measured are missing."""
    ceilings = [Figure(ceiling_name(mode.name), TEXTS) for mode in MODES]
    ceiling = steadiest_best(rounds, ceilings)
    ratios: dict[str, Spread | None] = {}
    if ceiling is not None:
        for concurrency in (8, 32, 64):
            ratios[f"unary_c{concurrency}_to_ceiling"] = same_round_ratio(
                rounds, Figure(load_name("model", "unary", concurrency), TEXTS), ceiling
            )
        ratios["batch16_to_ceiling"] = same_round_ratio(
            rounds, Figure(load_name("model", "batch16", 8), TEXTS), ceiling
        )
    ratios["latency_c1_to_engine"] = of_rounds(rounds, Figure(SINGLE, "latency_to_engine"))
    ratios["null_cpu_to_echo"] = same_round_ratio(
        rounds, Figure(load_name("null", "unary", 8), CPU), Figure(load_name("echo", "unary", 8), CPU)
    )
    return Summary(
        best_mode=ceiling.measured if ceiling else "",
        ratios={aim.ratio: found for aim in AIMS if (found := ratios.get(aim.ratio)) is not None},
        padding_fraction=of_rounds([_padding(one) for one in rounds], Figure("padding", "fraction")),
        overhead_p99_us=of_rounds(rounds, Figure(OVERHEAD, "c1_p99_us")),
        others_fraction=of_rounds(rounds, Figure(MACHINE, "others_fraction")),
    )


def _padding(one: Round) -> Round:
    """Of all that was computed with the model in a round."""
    loads = [found for name, found in one.items() if name.startswith("model ")]
    padded = sum(found.get("padded_tokens", 0.0) for found in loads)
    tokens = sum(found.get("tokens", 0.0) for found in loads)
    return {"padding": {"fraction": 1.0 - tokens / padded}} if padded else {}
