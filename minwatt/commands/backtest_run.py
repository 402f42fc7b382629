"""A backtest without its command line: files to a world, the world to one row a contender.

Owns reading and checking of what a backtest needs, the order of contenders, and which code plays each of
them. Leaves the simulation to `scaler.simulate`. Called by `backtest` and by the leaderboard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.trace import read_trace
from loadtest.trace_kinds import BinnedTrace, RequestTrace
from minwatt.commands.backtest_result import MINWATT, OPTIMUM, Assumptions, Backtest, beside_optimum, row_of
from minwatt.v1.errors import UsageError
from scaler.carbon import Emission, Intensity, emission, read_intensity
from scaler.inputs import check_clock_set, read_pair, watts_basis
from scaler.policy import Policy
from scaler.simulate.baselines.contenders import BASELINES, baseline, initial_replicas
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.optimum import optimum
from scaler.simulate.outcome import Outcome
from scaler.simulate.run import simulate
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World

Detail = Literal["binned", "exact"]
_Floats = NDArray[np.float64]

# The order of rows; what is in BASELINES beyond these runs when it is asked for.
ALWAYS = (MINWATT, OPTIMUM)
USUAL = ("static", "hpa", "hpa-tuned", "kpa", "keda-rate", "ray-serve", "latency-ratio")
_REQUEST_BIN_S = 1.0  # one row a request is counted by the second


@dataclass(frozen=True, slots=True)
class Options:
    """Of one backtest, beside its three files."""

    against: tuple[str, ...] = USUAL
    peak_rps: float | None = None  # what the busiest bin is scaled to; None: as it is
    first_s: float | None = None
    arrival_cv: float = 1.0
    parked_w: float | None = None  # None: the profile's
    clock_set: str = ""  # empty: the profile's default
    carbon: Path | None = None  # None: the policy's
    seed: int = 0
    detail: Detail = "binned"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything read and checked; nothing has run yet. Names of files are as the user gave them."""

    trace: str
    policy: str
    profile: str
    fleet_scale: float
    world: World
    options: Options
    carbon: tuple[str, Intensity] | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The figures, and each contender's curves in the same order."""

    result: Backtest
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """`bound_j`: of the optimum, what no schedule takes less than; None of the others."""

    outcome: Outcome
    bound_j: float | None = None


def prepare(policy: Path, profile: Path, trace: Path, options: Options) -> Prepared:
    """Raises UsageError, one line, for whatever is wrong with a file, an option, or the policy itself."""
    wanted, measured = read_pair(policy, profile)
    _check(options)
    check_clock_set(options.clock_set, wanted, measured, profile)
    traffic, fleet_scale = _traffic(trace, options)
    world = World(
        profile=measured,
        policy=wanted,
        traffic=traffic,
        arrival_cv=options.arrival_cv,
        clock_set=options.clock_set,
        parked_w=options.parked_w,
        seed=options.seed,
    )
    carbon = _carbon(options, wanted, policy)
    return Prepared(str(trace), str(policy), str(profile), fleet_scale, world, options, carbon)


def run(prepared: Prepared, on_contender: Callable[[str], None] = lambda _: None) -> Finished:
    """`on_contender` hears the name of each before it runs. Raises UsageError for an impossible contender."""
    initial = initial_replicas(prepared.world)
    played = []
    for name in names(prepared.options):
        on_contender(name)
        played.append(play(name, prepared.world, initial, prepared.options.detail))
    return Finished(result_of(prepared, initial, played), tuple(one.outcome for one in played))


def result_of(prepared: Prepared, initial: int, played: Sequence[Played]) -> Backtest:
    """The figures of those contenders that ran."""
    world, traffic = prepared.world, prepared.world.traffic
    error_budget = world.policy.spec.slo.error_budget
    rows = [
        row_of(one.outcome, error_budget, _emission(prepared, one.outcome), one.bound_j) for one in played
    ]
    return Backtest(
        trace=prepared.trace,
        policy=prepared.policy,
        profile=prepared.profile,
        fleet_scale=prepared.fleet_scale,
        bin_s=traffic.bin_s,
        peak_rps=traffic.peak_rps,
        mean_rps=traffic.mean_rps,
        seconds=traffic.observed_s,
        no_data_s=traffic.duration_s - traffic.observed_s,
        slo_ms=1000 * world.slo_latency_s,
        error_budget=error_budget,
        carbon=prepared.carbon[0] if prepared.carbon else None,
        assumptions=assumptions(world, initial, prepared.options.detail),
        contenders=beside_optimum(rows),
    )


def names(options: Options) -> tuple[str, ...]:
    """minwatt and the optimum first, then what they are set against, each once."""
    return tuple(dict.fromkeys((*ALWAYS, *options.against)))


def play(name: str, world: World, initial: int, detail: Detail) -> Played:
    """What comes of one contender. The optimum decides nothing: it is computed from the whole trace."""
    if name == OPTIMUM:
        best = optimum(world, initial)
        return Played(best.outcome, best.bound_j)
    contender = Minwatt(world) if name == MINWATT else baseline(name, world, initial)
    return Played(simulate(world, contender, initial, detail))


def assumptions(world: World, initial: int, detail: Detail) -> Assumptions:
    """What the world rests on, in words and numbers."""
    profile, variant = world.profile, world.profile.variant()
    used = None
    if world.clock_steps:
        used = next(one for one in profile.clock_sets if one.name == (world.clock_set or one.name))
    return Assumptions(
        latency_basis=variant.service_time.basis,
        watts_basis=watts_basis(profile),
        start_up_basis=profile.start_up.basis,
        start_up_s=profile.start_up.seconds,
        start_up_j=profile.start_up.joules,
        clock_set=used.name if used else None,
        clock_basis=used.basis if used else None,
        parked_w=world.parked_watts,
        arrival_cv=world.arrival_cv,
        text_tokens=profile.text_tokens,
        initial_replicas=initial,
        service_noise=world.service_noise,
        telemetry_delay_s=world.telemetry_delay_s,
        detail=detail,
        seed=world.seed,
    )


def _check(options: Options) -> None:
    for name in options.against:
        if name not in (*ALWAYS, *BASELINES):
            raise UsageError(f"--against = {name!r}: allowed: {', '.join((*ALWAYS, *BASELINES))}")


def _traffic(trace: Path, options: Options) -> tuple[Traffic, float]:
    """The trace's first part, its rates scaled; never thinned. Scaled to the peak of the whole trace."""
    found = read_trace(trace, strict=True)
    binned: BinnedTrace = found.binned(_REQUEST_BIN_S) if isinstance(found, RequestTrace) else found
    if not np.nansum(binned.counts) > 0:
        raise UsageError(f"{trace}: count: no bin has a request; at least one is needed")
    highest_rps = float(np.nanmax(binned.counts)) / binned.bin_s
    scale = 1.0 if options.peak_rps is None else options.peak_rps / highest_rps
    part = binned if options.first_s is None else binned.first(options.first_s)
    if not np.nansum(part.counts) > 0:
        raise UsageError(f"--first = {options.first_s:g}s: no bin of {trace} in it has a request")
    return Traffic(part.bin_s, part.counts * scale), scale


def _carbon(options: Options, policy: Policy, policy_file: Path) -> tuple[str, Intensity] | None:
    """The option's file, or else the policy's, which is named from where the policy lies."""
    if options.carbon is not None:
        return str(options.carbon), read_intensity(options.carbon)
    named = policy.spec.carbon
    if named is None:
        return None
    return named.intensity_file, read_intensity(policy_file.parent / named.intensity_file)


def _emission(prepared: Prepared, outcome: Outcome) -> Emission | None:
    if prepared.carbon is None:
        return None
    edges_s, joules = joules_over_time(outcome, prepared.world.traffic.duration_s)
    return emission(prepared.carbon[1], edges_s, joules)


def joules_over_time(outcome: Outcome, duration_s: float) -> tuple[_Floats, _Floats]:
    """(edges, joules between them) along the outcome's curve of watts; they add up to its energy."""
    series = outcome.series
    edges_s = np.append(series.t_s, duration_s)
    drawn_j = np.nan_to_num(series.watts, nan=0.0) * np.diff(edges_s)
    total_j = float(drawn_j.sum())
    return edges_s, drawn_j * (outcome.energy_j / total_j) if total_j > 0 else drawn_j
