"""Two recorded runs beside one another: by how much each figure differs, and whether that is more than noise.

Pure. Requests of one moment share a queue, so they are no independent samples: a run is cut into blocks of
time, and blocks are drawn with replacement (Künsch, "The jackknife and the bootstrap for general stationary
observations", Annals of Statistics 17, 1989). Runs of the same load are drawn in pairs, the same blocks of
both: what the load itself did is then no noise. The interval holds 95 of 100 drawn differences. Called by
`minwatt report compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.fleet_log import UnknownJoules, joules_over_time
from loadtest.outcomes import Outcome, Result
from loadtest.runs import RunData
from report.comparison import Change

DRAWS = 1000
_BLOCKS = 60
_SHORTEST_BLOCK_S = 1.0
_FEWEST_BLOCKS = 5
_OUTER = (2.5, 97.5)  # percentiles of the differences
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A run by blocks of time; each list has one array a block."""

    latencies_ms: list[Floats]  # of completed requests
    server_ms: list[Floats]
    requests: Floats
    completed: Floats
    over_slo: Floats | None
    joules: Floats | None
    of_fleet: bool  # its joules are the whole fleet's, and those over time are its watts
    block_s: float


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    unit: str
    less_is_better: bool | None
    value: Callable[[_Blocks, NDArray[np.intp]], float | None]


def compare(a: RunData, b: RunData, seed: int = 0, draws: int = DRAWS) -> list[Change]:
    """From `a` to `b`. A figure that neither run has is left out."""
    blocks = min(_count(a), _count(b))
    first, second = _blocks(a, blocks), _blocks(b, blocks)
    paired = a.record.load == b.record.load and a.record.span_s == b.record.span_s
    rng = np.random.default_rng(seed)
    everything = np.arange(blocks)
    draws_a = rng.integers(0, blocks, (draws, blocks))
    draws_b = draws_a if paired else rng.integers(0, blocks, (draws, blocks))
    changes = []
    for figure in _FIGURES:
        whole = figure.value(first, everything), figure.value(second, everything)
        if whole == (None, None):
            continue
        low = high = None
        if blocks >= _FEWEST_BLOCKS and None not in whole:
            drawn = [
                (figure.value(first, one), figure.value(second, other))
                for one, other in zip(draws_a, draws_b, strict=True)
            ]
            known = [after - before for before, after in drawn if before is not None and after is not None]
            low, high = np.percentile(known, _OUTER).tolist()
        changes.append(Change(figure.name, figure.unit, *whole, low, high, figure.less_is_better))
    return changes


def _count(run: RunData) -> int:
    return max(1, min(_BLOCKS, int(run.record.span_s / _SHORTEST_BLOCK_S)))


def _blocks(run: RunData, count: int) -> _Blocks:
    edges_s = np.linspace(0.0, run.record.span_s, count + 1)
    planned_s = np.array([outcome.planned_s for outcome in run.outcomes])
    block = np.clip(np.searchsorted(edges_s, planned_s, side="right") - 1, 0, count - 1)
    done = np.array([outcome.result is Result.COMPLETED for outcome in run.outcomes], dtype=np.bool_)
    latencies_ms = np.array([1e3 * outcome.latency_s for outcome in run.outcomes])
    server_ms = np.array([np.nan if one.server_s is None else 1e3 * one.server_s for one in run.outcomes])
    slo_s = run.record.slo_s
    over = None
    if slo_s is not None:
        over = np.bincount(block[~done | (latencies_ms > 1e3 * slo_s)], minlength=count).astype(np.float64)
    return _Blocks(
        latencies_ms=_split(latencies_ms[done], block[done], count),
        server_ms=_split(server_ms[done & ~np.isnan(server_ms)], block[done & ~np.isnan(server_ms)], count),
        requests=np.bincount(block, minlength=count).astype(np.float64),
        completed=np.bincount(block[done], minlength=count).astype(np.float64),
        over_slo=over,
        joules=_joules(run, edges_s, block),
        of_fleet=run.fleet is not None,
        block_s=run.record.span_s / count,
    )


def _split(values: Floats, block: NDArray[np.intp], count: int) -> list[Floats]:
    order = np.argsort(block, kind="stable")
    ends = np.cumsum(np.bincount(block, minlength=count))[:-1]
    return list(np.split(values[order], ends))


def _joules(run: RunData, edges_s: Floats, block: NDArray[np.intp]) -> Floats | None:
    """By block: the fleet's where it was logged, else the replies' shares; None: unknown."""
    if run.fleet is not None:
        read = joules_over_time(run.fleet.fleet)
        if isinstance(read, UnknownJoules):
            return None
        at_s, joules = read
        return np.diff(np.interp(run.record.started_unix_s + edges_s, at_s, joules))
    shares: Sequence[Outcome] = run.outcomes
    if not any(outcome.energy_j is not None for outcome in shares):
        return None
    joules_of = [outcome.energy_j or 0.0 for outcome in shares]
    return np.asarray(np.bincount(block, joules_of, minlength=len(edges_s) - 1), dtype=np.float64)


def _percentile(of: Callable[[_Blocks], list[Floats]], percent: float) -> Callable[..., float | None]:
    def value(blocks: _Blocks, chosen: NDArray[np.intp]) -> float | None:
        parts = of(blocks)
        values = np.concatenate([parts[place] for place in chosen])
        return float(np.percentile(values, percent)) if len(values) else None

    return value


def _ratio(over: str, under: str) -> Callable[[_Blocks, NDArray[np.intp]], float | None]:
    def value(blocks: _Blocks, chosen: NDArray[np.intp]) -> float | None:
        above, below = getattr(blocks, over), getattr(blocks, under)
        if above is None or not below[chosen].sum():
            return None
        return float(above[chosen].sum() / below[chosen].sum())

    return value


def _goodput(blocks: _Blocks, chosen: NDArray[np.intp]) -> float | None:
    good = blocks.completed if blocks.over_slo is None else blocks.requests - blocks.over_slo
    return float(good[chosen].sum() / (len(chosen) * blocks.block_s)) if blocks.block_s > 0 else None


def _watts(blocks: _Blocks, chosen: NDArray[np.intp]) -> float | None:
    if blocks.joules is None or not blocks.of_fleet or blocks.block_s <= 0:
        return None
    return float(blocks.joules[chosen].sum() / (len(chosen) * blocks.block_s))


_FIGURES = (
    _Figure("p50", "ms", True, _percentile(lambda blocks: blocks.latencies_ms, 50)),
    _Figure("p99", "ms", True, _percentile(lambda blocks: blocks.latencies_ms, 99)),
    _Figure("p99 at the server", "ms", True, _percentile(lambda blocks: blocks.server_ms, 99)),
    _Figure("over the SLO", "of requests", True, _ratio("over_slo", "requests")),
    _Figure("completed", "of requests", False, _ratio("completed", "requests")),
    _Figure("goodput", "/s", False, _goodput),
    _Figure("power of the fleet", "W", True, _watts),
    _Figure("energy a request", "J", True, _ratio("joules", "completed")),
)
