"""What the planner chooses for a steady rate, as `minwatt plan` prints it, and what else could be run.

Pure. Owns the question that the command asks the planner, and the schema of its JSON. Called by `plan`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from scaler.candidate import Candidate, Demand
from scaler.inputs import bases
from scaler.latency import mean_batch
from scaler.lever import Lever
from scaler.levers import LeverTable, LeverTables, TableKey
from scaler.operating_point import OperatingPoint
from scaler.plan import Planner
from scaler.pools import Pool, PoolPlan, Traffic, plan_pools
from scaler.settings import Settings

_NEAR = 3  # fleet sizes beside the chosen one


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Frozen):
    """An operating point. `sm_clock_mhz` 0: the card is left alone."""

    max_batch_texts: int
    max_delay_ms: float
    variant: str
    sm_clock_mhz: int
    reflex_sm_clock_mhz: int
    reflex_backlog_ms: float  # above it the clock is raised; 0: above 0.4 of the SLO


class FleetPlan(_Frozen):
    """So many replicas at that point, and what they are predicted to do."""

    what: str
    replicas: int
    point: Point
    watts: float  # at the expected rate
    idle_w: float
    busy_w: float
    joules_per_request: float | None  # null: fewer are completed than come
    tail_ms: float | None  # at the policy's percentile and the upper rate; null: the queue would grow
    load: float  # of one replica's capacity, at the upper rate
    holds_slo: bool
    within_budget: bool
    gives_up: tuple[str, ...]  # of whenOverBudget


class PoolShare(_Frozen):
    """One profile's part. `bases`: what its figures rest on. `fleet` is null where nothing runs there."""

    profile: str
    bases: str
    share: float  # of the requests
    fleet: FleetPlan | None


class Plan(_Frozen):
    """For a steady rate. `problem` says why nothing is planned; then there are no pools."""

    policy: str
    rps: float
    upper_rps: float
    slo_ms: float
    percentile: float
    budget_w: float | None
    watts: float | None
    joules_per_request: float | None
    holds_slo: bool
    within_budget: bool
    problem: str | None
    pools: tuple[PoolShare, ...]
    alternatives: tuple[FleetPlan, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A profile under the policy, and the profile's file as the user named it."""

    file: str
    settings: Settings


def plan_for(policy_file: str, sources: Sequence[Source], rps: float, upper_rps: float) -> Plan:
    """One text a request, as long as each profile says. Several sources are pools that share the requests."""
    if len(sources) == 1:
        return _of_one(policy_file, sources[0], rps, upper_rps)
    return _of_pools(policy_file, sources, rps, upper_rps)


def _of_one(policy_file: str, source: Source, rps: float, upper_rps: float) -> Plan:
    settings = source.settings
    demand = Demand(rps, upper_rps, settings.profile.text_tokens)
    chosen = _best(settings.tables, demand)
    fleet = _described("chosen", settings.tables, chosen, demand)
    part = PoolShare(profile=source.file, bases=bases(settings.profile), share=1.0, fleet=fleet)
    return _plan(policy_file, settings, (rps, upper_rps), [part], _alternatives(settings, chosen, demand))


def _of_pools(policy_file: str, sources: Sequence[Source], rps: float, upper_rps: float) -> Plan:
    """The policy's bounds on replicas hold in each pool that runs, its budget for all of them together."""
    settings = sources[0].settings
    tables = [_without_budget(source.settings) for source in sources]
    pools = [
        Pool(source.file, Planner(table), source.settings.profile.text_tokens)
        for source, table in zip(sources, tables, strict=True)
    ]
    alone = [
        _described(f"{source.file} alone", table, _best(table, demand), demand)
        for source, table in zip(sources, tables, strict=True)
        for demand in [Demand(rps, upper_rps, source.settings.profile.text_tokens)]
    ]
    try:
        shares = plan_pools(pools, Traffic(rps, upper_rps), settings.limits.budget_w)
    except ValueError as error:
        return _plan(policy_file, settings, (rps, upper_rps), [], alone, str(error))
    parts = [
        _share(source, table, one, rps, upper_rps)
        for source, table, one in zip(sources, tables, shares, strict=True)
    ]
    return _plan(policy_file, settings, (rps, upper_rps), parts, alone)


def _share(source: Source, tables: LeverTables, one: PoolPlan, rps: float, upper_rps: float) -> PoolShare:
    tokens = source.settings.profile.text_tokens
    demand = Demand(one.share * rps, one.share * upper_rps, tokens)
    fleet = None if one.candidate is None else _described("chosen", tables, one.candidate, demand)
    return PoolShare(profile=source.file, bases=bases(source.settings.profile), share=one.share, fleet=fleet)


def _without_budget(settings: Settings) -> LeverTables:
    limits = replace(settings.limits, budget_w=None)
    return LeverTables(settings.profile, limits, settings.plan_rules, settings.clock_set)


def _plan(
    policy_file: str,
    settings: Settings,
    rates: tuple[float, float],
    parts: Sequence[PoolShare],
    alternatives: Iterable[FleetPlan],
    problem: str | None = None,
) -> Plan:
    spec = settings.policy.spec
    fleets = [part.fleet for part in parts if part.fleet is not None]
    watts = sum(fleet.watts for fleet in fleets) if fleets else None
    keeps_up = all(fleet.joules_per_request is not None for fleet in fleets)
    return Plan(
        policy=policy_file,
        rps=rates[0],
        upper_rps=rates[1],
        slo_ms=1000 * spec.slo.latency_s,
        percentile=spec.slo.percentile,
        budget_w=spec.power.budget_w,
        watts=watts,
        joules_per_request=watts / rates[0] if watts is not None and keeps_up else None,
        holds_slo=bool(fleets) and all(fleet.holds_slo for fleet in fleets),
        within_budget=bool(fleets) and all(fleet.within_budget for fleet in fleets),
        problem=problem,
        pools=tuple(parts),
        alternatives=tuple(alternatives),
    )


def _best(tables: LeverTables, demand: Demand) -> Candidate:
    """The fewest watts; the best effort where nothing holds the SLO within the budget."""
    planner = Planner(tables)
    costs = planner.costs(demand)
    cheapest = costs.cheapest
    return planner.at(cheapest, demand) if math.isfinite(costs.watts[cheapest]) else costs.best


def _alternatives(settings: Settings, chosen: Candidate, demand: Demand) -> Iterator[FleetPlan]:
    """Other fleet sizes at their best points; then the best without one of the levers."""
    limits, planner = settings.limits, Planner(settings.tables)
    least, most = chosen.replicas - _NEAR, chosen.replicas + _NEAR
    for replicas in range(max(1, limits.min_replicas, least), min(limits.max_replicas, most) + 1):
        if replicas != chosen.replicas:
            one = planner.at(replicas, demand)
            yield _described(f"{replicas - chosen.replicas:+d} replicas", settings.tables, one, demand)
    without = {
        "no batching delay": replace(limits, max_delay_s=0.0),
        "clocks left alone": replace(limits, clocks=False),
        "batches of one": replace(limits, max_batch_texts=1, max_delay_s=0.0),
    }
    for what, fewer in without.items():
        if fewer != limits:
            tables = LeverTables(settings.profile, fewer, settings.plan_rules, settings.clock_set)
            yield _described(what, tables, _best(tables, demand), demand)


def _described(what: str, tables: LeverTables, one: Candidate, demand: Demand) -> FleetPlan:
    lever = _lever(tables.at(TableKey(demand.text_tokens, 1.0, 1.0)), one.point)
    each_tps = demand.expected_tps / one.replicas
    batch = float(mean_batch(lever.server(tables.limits.slo_latency_s), np.array([each_tps]))[0])
    computing = min(1.0, each_tps / batch * lever.engine.service_s(batch))
    idle_w = min(one.watts, one.replicas * lever.engine.idle_w * (1 - computing))
    tail_s = Planner(tables).tail_s(one.replicas, one.point, demand, tables.limits.percentile)
    keeps_up = one.load * demand.expected_tps <= demand.upper_tps
    return FleetPlan(
        what=what,
        replicas=one.replicas,
        point=Point(
            max_batch_texts=one.point.max_batch_texts,
            max_delay_ms=1000 * one.point.max_delay_s,
            variant=one.point.variant or tables.profile.variant().name,
            sm_clock_mhz=one.point.sm_clock_mhz,
            reflex_sm_clock_mhz=one.point.reflex_sm_clock_mhz,
            reflex_backlog_ms=1000 * one.point.reflex_backlog_s,
        ),
        watts=one.watts,
        idle_w=idle_w,
        busy_w=one.watts - idle_w,
        joules_per_request=one.watts / demand.expected_tps if keeps_up else None,
        tail_ms=1000 * tail_s if math.isfinite(tail_s) else None,
        load=one.load,
        holds_slo=one.holds_slo,
        within_budget=one.within_budget,
        gives_up=one.rungs,
    )


def _lever(table: LeverTable, point: OperatingPoint) -> Lever:
    """The table's lever of that point; on the budget's ladder a point differs in what it gives up alone."""

    def distance(lever: Lever) -> tuple[bool, bool, int, float, float]:
        own = lever.point
        return (
            own.variant != point.variant,
            own.sm_clock_mhz != point.sm_clock_mhz,
            abs(own.max_batch_texts - point.max_batch_texts),
            abs(own.max_delay_s - point.max_delay_s),
            abs(own.reflex_backlog_s - point.reflex_backlog_s),
        )

    return min(table.levers, key=distance)
