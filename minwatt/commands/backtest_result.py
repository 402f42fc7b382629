"""What `minwatt backtest` found, as its JSON has it: one row a contender, and what all of them rest on.

Owns the schema and the arithmetic between rows (ratio to the optimum, who keeps the SLO). Made by
`backtest_run`; read by the table, the page and the leaderboard.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from report.provenance import Provenance
from scaler.carbon import Emission
from scaler.simulate.outcome import Outcome

OPTIMUM = "optimum"
MINWATT = "minwatt"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Frozen):
    """One contender. Joules count the whole fleet: idle ones with those of parked devices, busy, starting up.

    Latencies are at the server (queue + compute), of answered requests; null if none was.
    """

    name: str
    energy_j: float
    idle_j: float
    busy_j: float
    startup_j: float
    over_slo_fraction: float  # of all requests: slower than the SLO, refused or failed
    keeps_slo: bool  # that fraction is within the policy's error budget
    p50_ms: float | None
    p99_ms: float | None
    batch_mean: float | None
    replicas_mean: float
    replicas_max: int
    reversals: int
    underprovisioned_s: float
    overprovisioned_s: float
    ratio_to_optimum: float | None = None  # of joules; null without an optimum
    bound_j: float | None = None  # of the optimum: what no schedule takes less than
    gco2: float | None = None  # of the joules whose hour has an intensity; null without an intensity file
    gco2_unknown_share: float | None = None  # of the joules: their hours have none


class Assumptions(_Frozen):
    """What every row rests on. `basis`: measured, published, assumed or modelled."""

    latency_basis: str
    watts_basis: str
    start_up_basis: str
    clock_set: str | None  # null: the clocks are left alone
    clock_basis: str | None
    start_up_s: float
    start_up_j: float
    parked_w: float  # of the device that a removed replica leaves behind
    arrival_cv: float  # of the gaps between arrivals inside a bin; 1: Poisson
    text_tokens: float  # one text a request, of that length
    initial_replicas: int  # of every contender: what `static` needs at the peak
    service_noise: float
    telemetry_delay_s: float
    detail: str
    seed: int


class Backtest(_Frozen):
    """One trace under one policy on one profile. `fleet_scale`: what the trace's rates were multiplied by."""

    trace: str
    policy: str
    profile: str
    fleet_scale: float
    bin_s: float
    peak_rps: float  # of the busiest bin, scaled
    mean_rps: float
    seconds: float  # with data
    no_data_s: float  # not simulated and not counted
    slo_ms: float
    error_budget: float
    carbon: str | None
    assumptions: Assumptions
    contenders: tuple[Row, ...]
    provenance: Provenance | None = None  # null: not told by the file that it was read from

    def row(self, name: str) -> Row | None:
        return next((row for row in self.contenders if row.name == name), None)

    def ranked(self) -> list[Row]:
        """Fewest joules first of those that keep the SLO; then the others: their joules compare with none."""
        return sorted(self.contenders, key=lambda row: (not row.keeps_slo, row.energy_j))


def row_of(
    outcome: Outcome, error_budget: float, emitted: Emission | None = None, bound_j: float | None = None
) -> Row:
    """Figures of one contender by itself."""
    answered = outcome.answered > 0
    return Row(
        name=outcome.contender,
        energy_j=outcome.energy_j,
        idle_j=outcome.idle_j,
        busy_j=outcome.busy_j,
        startup_j=outcome.startup_j,
        over_slo_fraction=outcome.over_slo_fraction,
        keeps_slo=outcome.over_slo_fraction <= error_budget,
        p50_ms=outcome.p50_ms if answered else None,
        p99_ms=outcome.p99_ms if answered else None,
        batch_mean=outcome.batch_mean if answered else None,
        replicas_mean=outcome.replicas_mean,
        replicas_max=outcome.replicas_max,
        reversals=outcome.reversals,
        underprovisioned_s=outcome.underprovisioned_s,
        overprovisioned_s=outcome.overprovisioned_s,
        bound_j=bound_j,
        gco2=emitted.gco2 if emitted else None,
        gco2_unknown_share=emitted.unknown_share if emitted else None,
    )


def beside_optimum(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with their joules over the optimum's."""
    best_j = next((row.energy_j for row in rows if row.name == OPTIMUM), 0.0)
    if best_j <= 0:
        return tuple(rows)
    return tuple(row.model_copy(update={"ratio_to_optimum": row.energy_j / best_j}) for row in rows)
