"""Runs cells, each contender once, and keeps what came out in files that a later run finds again.

A result is kept beside a digest of everything that it depends on: the trace, the profile, the policy, the
options, and the code that plays the contender. What has changed is run anew, what has not is read. Called by
`__main__`; `board` reads what is kept.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from minwatt.commands.backtest_result import MINWATT, OPTIMUM, Backtest
from minwatt.commands.backtest_run import Options, Prepared, play, prepare, result_of
from minwatt.commands.pooled import mean_of_each
from scaler.inputs import read_pair
from scaler.settings import Settings
from scaler.simulate.baselines.contenders import initial_replicas
from scaler.simulate.baselines.server_settings import as_shipped
from scaler.simulate.capacity import rate_at_slo
from scaler.simulate.outcome import Outcome
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World
from scripts.leaderboard.cells import MADE, OFF, STEADY, STEP, Cell, Fleet
from scripts.leaderboard.imports import files_of

_CURVE_POINTS = 300  # of a plot in the document
MOST_REPLICAS = 6  # × the static fleet: room for contenders that overshoot, as the HPA's law does
# The peak is a little below what the static fleet carries, so that rounding asks for no replica more.
_PEAK_SHARE = 0.999
_MADE_STEPS_S = 1800  # each half of a made trace
# What plays a contender; its result depends on the code of these and of all that they import, but for what
# reads files and replicas' reports: what came of the files is in the digest, and a simulation has no reports.
# The optimum takes of `settings` the limits and rules alone, which are in its digest as values.
_EVERYONE = ("scaler.simulate.run", "scaler.simulate.baselines.static")
_PLAYED_BY = {
    MINWATT: (*_EVERYONE, "scaler.simulate.minwatt"),
    OPTIMUM: (*_EVERYONE, "scaler.simulate.optimum"),
}
_BASELINES = (*_EVERYONE, "scaler.simulate.baselines.contenders")
_READING = ("minwatt.v1.strict_yaml", "scaler.documents", "scaler.signals")
_AS_VALUES = {OPTIMUM: (*_READING, "scaler.settings")}


class Kept(BaseModel):
    """One contender's result in one cell, and its curve for a plot: means over equal spans."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    command: str  # that gives the same row
    wall_s: float
    result: Backtest  # of this contender alone
    span_s: float
    arrivals_rps: list[float | None]  # null: no data
    replicas: list[float | None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where traces are read and results are kept. `first_s`: of each trace, its first part alone."""

    traces: Path
    kept: Path
    first_s: float | None = None

    def file(self, cell: Cell, contender: str) -> Path:
        return self.kept / cell.home(contender).name / f"{contender}.json"


def run_all(cells: Sequence[Cell], place: Place, jobs: int) -> Iterator[str]:
    """Runs what is not kept, `jobs` cells at a time; yields a line for each contender that is through."""
    for fleet in {cell.fleet for cell in cells}:
        write_policies(fleet, place)
    _write_made_traces(place)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = [pool.submit(run_cell, cell, place) for cell in cells]
        for done, future in enumerate(as_completed(waiting), start=1):
            for line in future.result():
                yield f"[{done}/{len(waiting)}] {line}"


def run_cell(cell: Cell, place: Place) -> list[str]:
    """The contenders that have their home here and are not kept yet."""
    prepared: Prepared | None = None
    lines = []
    for contender in cell.contenders:
        if cell.home(contender) != cell or is_fresh(cell, contender, place):
            continue
        prepared = prepared or _prepared(cell, place)
        began_s = time.monotonic()
        initial = initial_replicas(prepared.world)
        played = play(contender, prepared.world, initial, prepared.options.detail)
        kept = _kept(cell, contender, place, prepared, result_of(prepared, initial, [played]), played.outcome)
        kept = kept.model_copy(update={"wall_s": round(time.monotonic() - began_s, 1)})
        file = place.file(cell, contender)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(kept.model_dump_json(indent=1), encoding="utf-8")
        partial.replace(file)  # a run that is stopped leaves no half a file
        lines.append(_line(cell, kept))
    return lines


def is_fresh(cell: Cell, contender: str, place: Place) -> bool:
    """Whether what is kept is of these inputs and this code."""
    kept = read_kept(cell, contender, place)
    return kept is not None and kept.digest == digest(cell.home(contender), contender, place)


def read_kept(cell: Cell, contender: str, place: Place) -> Kept | None:
    file = place.file(cell, contender)
    return Kept.model_validate_json(file.read_bytes()) if file.exists() else None


def digest(cell: Cell, contender: str, place: Place) -> str:
    """Of the cell's inputs and of the contender's code."""
    policy = _policy(cell.fleet, cell.clocks, place)
    whole = hashlib.sha256(_code_digest(contender).encode())
    whole.update(_trace(cell.trace, place).read_bytes())
    pair = read_pair(policy, cell.fleet.profile)
    whole.update(repr(pair).encode())
    if contender == OPTIMUM:
        settings = Settings(*pair)
        whole.update(repr((settings.limits, settings.plan_rules)).encode())
    whole.update(repr((cell.name, contender, cell.fleet.replicas, place.first_s)).encode())
    return whole.hexdigest()


@cache
def _code_digest(contender: str) -> str:
    files = files_of(_PLAYED_BY.get(contender, _BASELINES), _AS_VALUES.get(contender, _READING))
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def _prepared(cell: Cell, place: Place) -> Prepared:
    options = Options(
        peak_rps=_peak_rps(cell.fleet, _policy(cell.fleet, OFF, place)),
        first_s=place.first_s,
        arrival_cv=cell.arrival_cv,
        parked_w=cell.parked_w,
        clock_set="" if cell.clocks == OFF else cell.clocks,
    )
    policy = _policy(cell.fleet, cell.clocks, place)
    return prepare(policy, cell.fleet.profile, _trace(cell.trace, place), options)


@cache
def _peak_rps(fleet: Fleet, policy_file: Path) -> float:
    """What the static fleet of that many replicas carries within the SLO, arrivals Poisson."""
    policy, profile = read_pair(policy_file, fleet.profile)
    world = World(profile, policy, Traffic(1.0, np.ones(1)))
    each_rps = rate_at_slo(world, as_shipped(world), policy.spec.slo.error_budget)
    return _PEAK_SHARE * fleet.replicas * each_rps


def _policy(fleet: Fleet, clocks: str, place: Place) -> Path:
    return place.kept / "policies" / f"{fleet.name}-clocks-{OFF if clocks == OFF else 'auto'}.yaml"


def write_policies(fleet: Fleet, place: Place) -> None:
    """The example's policy with room for the fleet, no budget, and the clock lever or not."""
    for clocks in (OFF, "auto"):
        document = yaml.safe_load(fleet.policy.read_text(encoding="utf-8"))
        spec = document["spec"]
        spec["replicas"] = {"min": 1, "max": MOST_REPLICAS * fleet.replicas}
        spec["gpu"] = {"clocks": clocks}
        spec.pop("power", None)
        spec.get("telemetry", {}).pop("fallbackReplicas", None)
        file = _policy(fleet, clocks, place)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _trace(name: str, place: Place) -> Path:
    if name in MADE:
        return place.kept / "traces" / f"{name}.csv"
    return place.traces / f"{name}.csv.gz"


def _write_made_traces(place: Place) -> None:
    """Half an hour at a third of the peak and half an hour at the peak; an hour at one rate."""
    for name, low in ((STEP, 1_000_000), (STEADY, 3_000_000)):
        counts = [low] * _MADE_STEPS_S + [3_000_000] * _MADE_STEPS_S
        file = _trace(name, place)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = "\n".join(f"{t_s},{count}" for t_s, count in enumerate(counts))
        file.write_text(f"t_s,count\n{rows}\n", encoding="utf-8")


def _kept(
    cell: Cell, contender: str, place: Place, prepared: Prepared, result: Backtest, outcome: Outcome
) -> Kept:
    options, series = prepared.options, outcome.series
    flags = [
        f"--policy {prepared.policy} --profile {prepared.profile} --trace {prepared.trace}",
        f"--peak-rps {options.peak_rps!r} --arrival-cv {options.arrival_cv:g} --against {contender}",
        *([f"--parked-watts {options.parked_w:g}"] if options.parked_w is not None else []),
        *([f"--clock-set {options.clock_set}"] if options.clock_set else []),
        *([f"--first {options.first_s:g}s"] if options.first_s else []),
    ]
    width = -(-len(series.t_s) // _CURVE_POINTS)
    step_s = float(series.t_s[1] - series.t_s[0]) if len(series.t_s) > 1 else 1.0
    return Kept(
        digest=digest(cell, contender, place),
        command="minwatt backtest " + " ".join(flags),
        wall_s=0.0,
        result=result,
        span_s=width * step_s,
        arrivals_rps=_pooled(series.arrivals_rps, width),
        replicas=_pooled(series.replicas_ready, width),
    )


def _pooled(values: NDArray[np.float64], width: int) -> list[float | None]:
    means = mean_of_each(values, width)
    return [None if math.isnan(mean) else float(f"{mean:.4g}") for mean in means.tolist()]


def _line(cell: Cell, kept: Kept) -> str:
    row = kept.result.contenders[0]
    held = "within" if row.keeps_slo else "MISSES"
    return (
        f"{cell.name} {row.name}: {row.energy_j:.4g} J, {row.over_slo_fraction:.3%} late ({held} the SLO),"
        f" {kept.wall_s:.0f} s"
    )
