"""Several pools of devices planned together: how the load is shared, and what runs in each.

Pure. A pool is one profile under one policy's limits, its own entry point, and its share of the traffic. The
fewest watts over all shares is found by dynamic programming over a grid of shares. Called by `minwatt plan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scaler.candidate import Candidate, Demand
from scaler.plan import Planner

SHARES = 100  # of the load: each step is one percent


@dataclass(frozen=True, slots=True)
class Pool:
    """`text_tokens` as this pool's tokenizer counts them."""

    name: str
    planner: Planner
    text_tokens: float


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """`share` of the load goes there; `candidate` is None where nothing runs."""

    pool: str
    share: float
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Texts a second of all pools together."""

    expected_tps: float
    upper_tps: float


def plan_pools(pools: Sequence[Pool], traffic: Traffic, budget_w: float | None = None) -> list[PoolPlan]:
    """The shares of the fewest watts with every pool within the SLO, in the order of `pools`.

    Raises ValueError when no way to share holds the SLO within the limits, or the fewest watts exceed the
    budget: it says by how much.
    """
    tables = [[_candidate(pool, traffic, step) for step in range(SHARES + 1)] for pool in pools]
    costs = [[_watts(one, step) for step, one in enumerate(table)] for table in tables]
    least_w, steps = _share_out(costs)
    if math.isinf(least_w):
        raise ValueError(f"{traffic.upper_tps:g} texts/s are more than all pools hold within the SLO")
    if budget_w is not None and least_w > budget_w:
        raise ValueError(f"the fewest watts are {least_w:.0f} W, the budget is {budget_w:g} W")
    return [
        PoolPlan(pool.name, step / SHARES, table[step])
        for pool, table, step in zip(pools, tables, steps, strict=True)
    ]


def _candidate(pool: Pool, traffic: Traffic, step: int) -> Candidate | None:
    if step == 0:
        return None
    share = step / SHARES
    demand = Demand(share * traffic.expected_tps, share * traffic.upper_tps, pool.text_tokens)
    costs = pool.planner.costs(demand)
    return pool.planner.at(costs.cheapest, demand)


def _watts(candidate: Candidate | None, step: int) -> float:
    if candidate is None:
        return 0.0 if step == 0 else math.inf
    return candidate.watts if candidate.holds_slo and candidate.within_budget else math.inf


def _share_out(costs: Sequence[Sequence[float]]) -> tuple[float, list[int]]:
    """The fewest watts of all steps shared out, and the steps of each pool."""
    least = [0.0] + [math.inf] * SHARES  # of the pools so far, by steps given
    choices: list[list[int]] = []
    for table in costs:
        chosen = [_best_split(table, least, given) for given in range(SHARES + 1)]
        least = [table[k] + least[given - k] for given, k in enumerate(chosen)]
        choices.append(chosen)
    given, steps = SHARES, []
    for chosen in reversed(choices):
        steps.append(chosen[given])
        given -= chosen[given]
    return least[SHARES], steps[::-1]


def _best_split(table: Sequence[float], least: Sequence[float], given: int) -> int:
    """How many of the given steps the last pool takes."""
    return min(range(given + 1), key=lambda k: table[k] + least[given - k])
