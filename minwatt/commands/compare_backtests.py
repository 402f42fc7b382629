"""Two backtests compared, contender by contender: simulated, so that each difference is exact.

Pure. Called by `report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.commands.backtest_result import Backtest, Row
from minwatt.v1.errors import UsageError
from report.comparison import Change, Comparison, Part


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    unit: str
    less_is_better: bool | None


_OF_ROWS = {
    "energy_j": _Column("energy", "J", True),
    "over_slo_fraction": _Column("over the SLO", "of requests", True),
    "p99_ms": _Column("p99", "ms", True),
    "replicas_mean": _Column("replicas, mean", "", None),
    "reversals": _Column("reversals", "", True),
    "ratio_to_optimum": _Column("energy over the optimum's", "×", True),
}


def comparison(names: tuple[str, str], a: Backtest, b: Backtest) -> Comparison:
    """Raises UsageError where they have no contender in common."""
    contenders = [row.name for row in a.contenders if b.row(row.name) is not None]
    if not contenders:
        raise UsageError(f"{names[1]}: has no contender of {names[0]}")
    parts = [Part(name, _changes(_row(a, name), _row(b, name))) for name in contenders]
    differ = [
        f"{field}: {getattr(a, field)} and {getattr(b, field)}"
        for field in ("trace", "policy", "profile", "fleet_scale", "slo_ms", "error_budget")
        if getattr(a, field) != getattr(b, field)
    ]
    bases = list(dict.fromkeys(one.assumptions.watts_basis for one in (a, b)))
    notes = ["simulated with fixed seeds: differences are exact, and say nothing of other traffic"]
    if differ:
        notes.append("of different inputs: " + "; ".join(differ))
    title = f"Backtests: {names[0]} (A) and {names[1]} (B)"
    return Comparison(title, names, tuple(parts), tuple(notes), " and ".join(bases))


def _changes(a: Row, b: Row) -> Sequence[Change]:
    changes = [
        Change(
            column.name,
            column.unit,
            getattr(a, field),
            getattr(b, field),
            less_is_better=column.less_is_better,
        )
        for field, column in _OF_ROWS.items()
    ]
    return [change for change in changes if (change.a, change.b) != (None, None)]


def _row(result: Backtest, name: str) -> Row:
    row = result.row(name)
    if row is None:
        raise ValueError(f"no contender {name}")
    return row
