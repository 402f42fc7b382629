"""The report as figures to read: one column a run, for the terminal and for the page.

Pure. Owns the rows, their wording and units. A joule is never shown without its source. Called by `cli`
and `document`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from loadtest.summary import RunReport

_UNKNOWN = "–"


def rows(runs: Sequence[RunReport]) -> list[tuple[str, list[str]]]:
    """(title, one cell a run); rows that no run has a value for are left out."""
    asked = [f"{slo_ms:g}" for slo_ms in sorted({run.slo_ms for run in runs if run.slo_ms is not None})]
    slo = f" (SLO {' and '.join(asked)} ms)" if asked else ""
    table = [
        ("requests", [f"{run.requests:,}" for run in runs]),
        ("completed", [f"{run.completed:,}" for run in runs]),
        ("refused", [f"{run.refused:,}" for run in runs]),
        ("failed", [f"{run.failed:,}" for run in runs]),
        ("offered load", [f"{run.offered_rps:.1f}/s" for run in runs]),
        ("goodput", [f"{run.goodput_rps:.1f}/s" for run in runs]),
        ("p50", [_number(run.p50_ms, "{:.1f} ms") for run in runs]),
        (f"p99{slo}", [_number(run.p99_ms, "{:.1f} ms") for run in runs]),
        ("p99 at the server", [_number(run.server_p99_ms, "{:.1f} ms") for run in runs]),
        ("over the SLO", [_number(run.over_slo_fraction, "{:.2%}") for run in runs]),
        ("SLO", [_met(run.slo_met) for run in runs]),
        ("energy", [_energy(run) for run in runs]),
        ("counts", [run.energy_basis for run in runs]),
        ("energy a request", [_number(run.joules_per_request, "{:.3g} J") for run in runs]),
        ("against the first", [_against(run, runs[0]) for run in runs]),
        ("replicas, mean", [_number(run.replicas_mean, "{:.2f}") for run in runs]),
        ("replicas, most", [_number(run.replicas_max, "{}") for run in runs]),
        ("decisions", [_number(run.decisions, "{}") for run in runs]),
        ("sender's lag, p99", [f"{run.sender.lag_p99_ms:.1f} ms" for run in runs]),
        ("sender's lag, most", [f"{run.sender.lag_max_ms:.1f} ms" for run in runs]),
    ]
    return [(title, cells) for title, cells in table if any(cell != _UNKNOWN for cell in cells)]


def runs_table(runs: Sequence[RunReport]) -> Table:
    """For the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for run in runs:
        table.add_column(run.name, justify="right", overflow="fold")
    for title, cells in rows(runs):
        table.add_row(title, *cells)
    return table


def headline(runs: Sequence[RunReport]) -> list[str]:
    """One line for each run of the first one's load whose energy can be compared with it."""
    lines = []
    for run in runs[1:]:
        change = _energy_change(run, runs[0])
        if change is not None:
            word = "fewer" if change < 0 else "more"
            lines.append(
                f"{run.name} used {abs(change):.0%} {word} joules than {runs[0].name} ({run.energy_source})"
                + _at_the_price_of(run, runs[0])
            )
    return lines


def _at_the_price_of(run: RunReport, first: RunReport) -> str:
    """Joules that were saved by not doing the job are no savings."""
    price = ["missed the SLO"] if run.slo_met is False else []
    if run.completed < first.completed:
        price.append(f"completed {first.completed - run.completed:,} requests fewer")
    return f", but {' and '.join(price)}" if price else ""


def warnings(runs: Sequence[RunReport]) -> list[str]:
    """What a reader of the figures must know; one line each."""
    lines = []
    for run in runs:
        if run.sender.fell_behind:
            lines.append(
                f"{run.name}: the sender fell behind by up to {run.sender.lag_max_ms:.0f} ms"
                f" (p99 {run.sender.lag_p99_ms:.0f} ms) and kept {run.sender.rate_fraction:.0%} of the rate:"
                " latencies count it; send less, or use more --processes"
            )
        if run.gap_s:
            lines.append(f"{run.name}: {run.gap_s:.1f} s of the trace have no data and got no requests")
        if run.stopped_at_s is not None:
            why = f" ({run.aborted})" if run.aborted else ""
            lines.append(
                f"{run.name}: stopped after {run.stopped_at_s:.1f} s{why}; the report covers that much"
            )
        if run.failed:
            codes = ", ".join(f"{code} {count}" for code, count in run.statuses.items() if code != "OK")
            lines.append(f"{run.name}: {run.failed} requests failed ({codes})")
    return lines


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else form.format(value)


def _met(met: bool | None) -> str:
    return _UNKNOWN if met is None else "met" if met else "missed"


def _energy(run: RunReport) -> str:
    return "unknown" if run.energy_j is None else f"{run.energy_j:.1f} J ({run.energy_source})"


def _against(run: RunReport, first: RunReport) -> str:
    change = None if run is first else _energy_change(run, first)
    return _UNKNOWN if change is None else f"{change:+.1%} J"


def _energy_change(run: RunReport, first: RunReport) -> float | None:
    """Of the whole run's joules, as a fraction; only where load, meter and what is counted are the same."""
    alike = run.energy_basis == first.energy_basis and run.energy_source == first.energy_source
    same_load = run.load == first.load and run.duration_s == first.duration_s  # a stopped run's is shorter
    if not (alike and same_load) or run.energy_j is None or not first.energy_j:
        return None
    return run.energy_j / first.energy_j - 1
