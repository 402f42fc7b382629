"""A backtest in figures to read: one row a contender, and the sentences that say what they rest on.

Pure. Owns the columns, their wording and units, and the mark of those that miss the SLO. A joule is never
shown without the basis of its watts. Called by `backtest` and `backtest_document`.
"""

from __future__ import annotations

from rich.table import Table

from minwatt.commands.backtest_result import MINWATT, OPTIMUM, Backtest, Row

MISSED = "✗"
KEPT = "✓"
_UNKNOWN = "–"
_LOOSE = 1.01  # × its bound, from which an optimum is said to be loose
_ENERGY_UNITS = ((3.6e9, "MWh"), (3.6e6, "kWh"), (1e3, "kJ"), (1.0, "J"))


def columns(result: Backtest) -> list[str]:
    """The heads, as many as `cells` has."""
    unit, _ = energy_unit(result)
    heads = [
        "contender",
        "SLO",
        unit,
        "× optimum",
        "idle/busy/start",
        "over SLO",
        "p99 ms",
        "batch",
        "replicas (most)",
        "reversals",
        "too few",
        "too many",
    ]
    return [*heads, "gCO2"] if result.carbon else heads


def cells(result: Backtest, row: Row) -> list[str]:
    """One contender's, in the order of `columns`."""
    _, unit_j = energy_unit(result)
    found = [
        row.name,
        KEPT if row.keeps_slo else MISSED,
        figure(row.energy_j / unit_j),
        _UNKNOWN if row.ratio_to_optimum is None else f"{row.ratio_to_optimum:.3f}",
        _shares(row),
        f"{row.over_slo_fraction:.3%}",
        _UNKNOWN if row.p99_ms is None else f"{row.p99_ms:.1f}",
        _UNKNOWN if row.batch_mean is None else f"{row.batch_mean:.1f}",
        f"{row.replicas_mean:.2f} ({row.replicas_max})",
        str(row.reversals),
        span(row.underprovisioned_s),
        span(row.overprovisioned_s),
    ]
    if result.carbon:
        found.append(_UNKNOWN if row.gco2 is None else f"{row.gco2:,.1f}")
    return found


def backtest_table(result: Backtest) -> Table:
    """For the terminal: who keeps the SLO, fewest joules first; then who misses it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(columns(result)):
        table.add_column(head, justify="left" if index < 2 else "right", no_wrap=True)
    for row in result.ranked():
        style = "bold" if row.name == MINWATT else "" if row.keeps_slo else "dim"
        table.add_row(*cells(result, row), style=style)
    return table


def title(result: Backtest) -> str:
    return (
        f"{result.trace}: {span(result.seconds)} at {figure(result.mean_rps)} requests/s, busiest bin"
        f" {figure(result.peak_rps)}; SLO {result.slo_ms:g} ms, {100 * result.error_budget:.3g}% may miss it"
    )


def sentences(result: Backtest) -> list[str]:
    """What every figure rests on, and what it does not count."""
    rests = result.assumptions
    rate = "as recorded" if result.fleet_scale == 1 else f"× {result.fleet_scale:.6g}"
    arrivals = "Poisson" if rests.arrival_cv == 1 else "bursty" if rests.arrival_cv > 1 else "even"
    lines = [
        f"Watts: {rests.watts_basis}. Latency: {rests.latency_basis}. Start-up: {rests.start_up_basis}."
        f" Profile {result.profile}.",
        f"Rates {rate}; arrivals inside a bin {arrivals} (CV {rests.arrival_cv:g});"
        f" {rests.text_tokens:g} tokens a request; {rests.detail} simulation, seed {rests.seed}.",
        f"{_clocks(result)} A removed replica leaves {rests.parked_w:g} W behind. All start from"
        f" {rests.initial_replicas} replicas (static's).",
        "Too few: time with too few replicas for the SLO; too many: with one more than it needed."
        f" Joules of those that miss the SLO ({MISSED}) compare with none.",
    ]
    best = result.row(OPTIMUM)
    if best and best.bound_j and best.energy_j > _LOOSE * best.bound_j:
        above = best.energy_j / best.bound_j - 1
        lines.append(f"The optimum's schedule takes {above:.1%} more than the bound that none can go below.")
    if result.no_data_s > 0:
        lines.append(f"{span(result.no_data_s)} of the trace have no data: not simulated, not counted.")
    unknown = max((row.gco2_unknown_share or 0.0 for row in result.contenders), default=0.0)
    if result.carbon and unknown > 0:
        lines.append(
            f"gCO2: up to {unknown:.1%} of the joules fall in hours without an intensity: not in it."
        )
    if result.carbon:
        lines.append(f"gCO2: intensity of {result.carbon}, the trace's start at its first row.")
    return lines


def headline(result: Backtest) -> str:
    """Minwatt beside the optimum and the frugalest of the others that keep the SLO."""
    own = result.row(MINWATT)
    if own is None or not own.keeps_slo:
        missed = "" if own is None else f": {own.over_slo_fraction:.2%} of requests over it"
        return f"minwatt misses the SLO{missed}"
    others = [row for row in result.ranked() if row.keeps_slo and row.name not in (MINWATT, OPTIMUM)]
    ratio = "" if own.ratio_to_optimum is None else f"{own.ratio_to_optimum:.3f} × the optimum's joules"
    if not others or others[0].energy_j <= 0:
        return f"minwatt: {ratio}"
    change = own.energy_j / others[0].energy_j - 1
    word = "fewer" if change < 0 else "more"
    return (
        f"minwatt: {ratio}, {abs(change):.1%} {word} than {others[0].name}, the best other that keeps the SLO"
    )


def energy_unit(result: Backtest) -> tuple[str, float]:
    """(name, joules in one): the largest in which the frugalest contender has 1 or more."""
    least_j = min((row.energy_j for row in result.contenders), default=0.0)
    for unit_j, name in _ENERGY_UNITS:
        if least_j >= unit_j:
            return name, unit_j
    return "J", 1.0


def figure(value: float) -> str:
    """Four figures, no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def span(duration_s: float) -> str:
    """12 s, 3.5 min, 4.2 h, 17.0 d."""
    for unit_s, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if duration_s >= 2 * unit_s:
            return f"{duration_s / unit_s:.1f} {name}"
    return f"{duration_s:.0f} s"


def _shares(row: Row) -> str:
    if row.energy_j <= 0:
        return _UNKNOWN
    return (
        "/".join(f"{100 * part_j / row.energy_j:.0f}" for part_j in (row.idle_j, row.busy_j, row.startup_j))
        + "%"
    )


def _clocks(result: Backtest) -> str:
    rests = result.assumptions
    if rests.clock_set is None:
        return "GPU clocks are left alone."
    return f"Clock set {rests.clock_set} ({rests.clock_basis}) for those that move clocks."
