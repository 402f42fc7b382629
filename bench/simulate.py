"""How long the simulator takes, and how far its two levels of detail lie apart.

    python -m bench.simulate [--profile F --policy P] [--days 14]

Prints seconds of one core's time for a day and for more days of a diurnal curve of 1,000 requests/s on
average: a fleet that nothing moves, and minwatt, which decides each tick. The tables of steady states are
made in the first run that needs them, and counted in it. Then, for a few minutes of several loads, what the
binned level says over what the exact one does, which simulates each request.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scaler.inputs import read_pair
from scaler.operating_point import OperatingPoint
from scaler.simulate.capacity import rate_at_slo
from scaler.simulate.contender import Contender, Seen, Wish
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.run import Detail, simulate
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World

ROOT = Path(__file__).parents[1]
MEAN_RPS = 1_000.0
BIN_S = 60.0
DAY_BINS = 1440
MINUTES = 3  # of the comparison
_WIDTH = 132  # columns: the table stays whole in a file or a pipe
LOADS = (0.1, 0.5, 0.8, 0.95)  # of what one replica does within the SLO


class Still:
    """A fleet that nothing moves."""

    name = "still"

    def __init__(self, period_s: float, point: OperatingPoint) -> None:
        self.period_s = period_s
        self._point = point
        self._replicas = 0

    def start(self, replicas: int) -> Wish:
        self._replicas = replicas
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:  # noqa: ARG002 - nothing moves it
        return Wish(self._replicas, self._point)


def main() -> None:
    options = _options()
    policy, profile = read_pair(options.policy, options.profile)
    base = World(profile, policy, Traffic(BIN_S, np.ones(1)))
    console = Console(width=_WIDTH)
    _speed(base, options.days, console)
    _agreement(base, console)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    reference = ROOT / "profiles/reference/a100-bert-base-int8.yaml"
    parser.add_argument("--profile", type=Path, default=reference)
    parser.add_argument("--policy", type=Path, default=ROOT / "examples/policy-a100.yaml")
    parser.add_argument("--days", type=int, default=14)
    return parser.parse_args()


def _speed(base: World, days: int, console: Console) -> None:
    table = Table("traffic", "contender", "requests", "seconds of one core", title="Speed, binned level")
    for length in dict.fromkeys((1, days)):
        world = replace(base, traffic=_diurnal(length))
        makes: tuple[Callable[[], Contender], ...] = (
            lambda: Still(5.0, _point(base, 0.0)),
            lambda world=world: Minwatt(world),  # type: ignore[misc]
        )
        replicas = _replicas(world)
        for make in makes:
            began_s = time.process_time()
            contender = make()
            outcome = simulate(world, contender, replicas)
            table.add_row(
                f"{length} d of {MEAN_RPS:,.0f} requests/s",
                contender.name,
                f"{outcome.requests:,}",
                f"{time.process_time() - began_s:.1f}",
            )
    console.print(table)


def _diurnal(days: int) -> Traffic:
    of_day = np.arange(days * DAY_BINS) / DAY_BINS
    return Traffic(BIN_S, MEAN_RPS * BIN_S * (1 - 0.8 * np.cos(2 * np.pi * of_day)))


def _replicas(world: World) -> int:
    spec = world.policy.spec
    each_rps = rate_at_slo(world, _point(world, 0.0), spec.slo.error_budget)
    return max(spec.replicas.min, min(spec.replicas.max, int(np.ceil(world.traffic.peak_rps / each_rps))))


def _point(world: World, delay_s: float, *, reflex: bool = False) -> OperatingPoint:
    """`reflex`: at the slowest clock there is, raised to the full one."""
    steps = world.clock_steps
    return OperatingPoint(
        version=1,
        max_batch_texts=world.policy.spec.batching.max_size,
        max_batch_tokens=world.profile.replica.max_batch_tokens,
        max_delay_s=delay_s,
        slo_latency_s=world.slo_latency_s,
        sm_clock_mhz=steps[-1].sm_clock_mhz if reflex and steps else 0,
        reflex_sm_clock_mhz=steps[0].sm_clock_mhz if reflex and steps else 0,
    )


def _agreement(base: World, console: Console) -> None:
    columns = ("load", "replicas", "delay ms", "clock", "gaps' CV", "joules", "mean batch", "p50", "p99")
    table = Table(
        *columns,
        "over SLO: exact",
        "binned",
        title=f"Binned over exact, {MINUTES} min each",
        caption="load: of what one replica does within the SLO at the full clock",
    )
    delay_s = base.policy.spec.batching.max_delay_s
    for replicas, cv in ((1, 1.0), (3, 2.0)):
        for point in (_point(base, 0.0), _point(base, delay_s), _point(base, 0.0, reflex=True)):
            for load in LOADS:
                row = _compared(replace(base, arrival_cv=cv), point, replicas, load)
                clock = "reflex" if point.reflex_sm_clock_mhz else "full"
                table.add_row(
                    f"{load:.0%}", str(replicas), f"{point.max_delay_s * 1e3:g}", clock, f"{cv:g}", *row
                )
    console.print(table)


def _compared(base: World, point: OperatingPoint, replicas: int, load: float) -> list[str]:
    each_rps = rate_at_slo(base, _point(base, 0.0), base.policy.spec.slo.error_budget, replicas)
    counts = np.full(MINUTES, load * replicas * each_rps * BIN_S)
    world = replace(base, traffic=Traffic(BIN_S, counts))
    details: tuple[Detail, Detail] = ("exact", "binned")
    exact, binned = (simulate(world, Still(5.0, point), replicas, detail) for detail in details)
    ratios = (
        binned.energy_j / exact.energy_j,
        binned.batch_mean / exact.batch_mean,
        binned.p50_ms / exact.p50_ms,
        binned.p99_ms / exact.p99_ms,
    )
    return [
        *(f"{ratio:.3f}" for ratio in ratios),
        f"{exact.over_slo_fraction:.3%}",
        f"{binned.over_slo_fraction:.3%}",
    ]


if __name__ == "__main__":
    main()
