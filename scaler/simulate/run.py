"""A contender in a world: steps of traffic, looks at the fleet, wishes that it follows, and what came of it.

Pure but for the tables' cache in `steady`; the same world, contender and seed give the same outcome. Called
by the backtest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scaler.operating_point import OperatingPoint
from scaler.simulate.binned import BinnedServing
from scaler.simulate.capacity import best_rate_at_slo
from scaler.simulate.contender import Contender, Wish
from scaler.simulate.exact import ExactServing
from scaler.simulate.fleet import Fleet, Serving
from scaler.simulate.ledger import Ledger, Yardstick
from scaler.simulate.outcome import Outcome
from scaler.simulate.telemetry import Telemetry, unseen
from scaler.simulate.world import World

Detail = Literal["binned", "exact"]
MakeServing = Callable[[World, OperatingPoint], Serving]
_SERVINGS: dict[Detail, MakeServing] = {"binned": BinnedServing, "exact": ExactServing}


def simulate(world: World, contender: Contender, initial: int, detail: Detail = "binned") -> Outcome:
    """`initial` replicas are ready at the start. Raises ValueError for a clock not in the profile."""
    traffic = world.traffic
    drawn = traffic.drawn(traffic.step_s(contender.period_s), world.arrival_cv, world.seed)
    return play(world, contender, initial, drawn, _SERVINGS[detail])


def play(
    world: World, contender: Contender, initial: int, counts: NDArray[np.float64], make: MakeServing
) -> Outcome:
    """As `simulate`, with given arrivals: `counts[i]` in step i, NaN without data.

    In a time without data the contender is not asked: it has no traffic to be judged by.
    """
    step_s = world.traffic.step_s(contender.period_s)
    wish = contender.start(initial)
    serving = make(world, wish.point)
    fleet = Fleet(world, serving, initial, wish.point)
    fleet.resize(wish.replicas, 0.0)
    looks = math.ceil(contender.period_s / step_s - 1e-9)
    telemetry = Telemetry(step_s, looks + 1, world.telemetry_delay_s)
    ledger = Ledger(_yardstick(world, initial), len(counts), step_s)
    losses = np.random.default_rng([world.seed, 5])
    looked = -1  # the step after which it decided last
    next_look_s = contender.period_s
    expected = world.traffic.expected(step_s).tolist()
    for step, requests in enumerate(counts.tolist()):
        until_s = (step + 1) * step_s
        if math.isnan(requests):
            ledger.gap(fleet.skip(until_s))
            telemetry.forget()
        else:
            served = fleet.step(step * step_s, until_s, requests, expected[step])
            ledger.step(served, fleet.ready)
            telemetry.hear(served)
        if until_s < next_look_s - 1e-6:
            continue
        next_look_s += contender.period_s
        steps, looked = step - looked, step
        if math.isnan(requests):
            continue
        lost = world.telemetry_loss > 0 and losses.random() < world.telemetry_loss
        seen = unseen(until_s, fleet) if lost else telemetry.seen(until_s, fleet, steps)
        wish = _follow(fleet, wish, contender.decide(seen), until_s)
    ledger.rest(serving.finish(len(counts) * step_s))
    return ledger.outcome(contender.name, fleet.reversals)


def _follow(fleet: Fleet, before: Wish, wish: Wish, now_s: float) -> Wish:
    if wish.point != before.point:
        fleet.retune(wish.point, now_s)
    fleet.resize(wish.replicas, now_s)
    return wish


def _yardstick(world: World, initial: int) -> Yardstick:
    spec = world.policy.spec
    return Yardstick(
        slo_rps=best_rate_at_slo(world, spec.slo.error_budget, initial),
        min_replicas=spec.replicas.min,
    )
