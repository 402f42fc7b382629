"""What is kept of the cells, side by side: ratios, savings, and who kept the SLO.

Owns the look-ups that the document, its verdicts and its plots share. Pure once `load` has read the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minwatt.commands.backtest_result import MINWATT, Backtest, Row, beside_optimum
from scripts.leaderboard.cells import MADE, Cell, Fleet
from scripts.leaderboard.runs import Kept, Place, is_fresh, read_kept

_THICK_BIN = 1000.0  # requests a recorded bin from which a bin's own scatter is small


@dataclass(frozen=True, slots=True)
class Filled:
    """A cell with what is kept of it: its backtest, and its contenders' curves by name."""

    cell: Cell
    result: Backtest
    kept: dict[str, Kept]

    def row(self, name: str) -> Row | None:
        return self.result.row(name)

    @property
    def own(self) -> Row | None:
        """Minwatt's."""
        return self.row(MINWATT)

    @property
    def is_thick(self) -> bool:
        """At least 1,000 requests a bin as recorded, so that bins scatter by 3% at most by themselves."""
        result = self.result
        bin_s = result.bin_s
        return result.mean_rps / result.fleet_scale * bin_s >= _THICK_BIN

    def saving(self, baseline: str, of: str = MINWATT) -> float | None:
        """Of one's joules against another's; None where either misses the SLO: those joules don't compare."""
        own, other = self.row(of), self.row(baseline)
        if own is None or other is None or not (own.keeps_slo and other.keeps_slo) or other.energy_j <= 0:
            return None
        return 1 - own.energy_j / other.energy_j


@dataclass(frozen=True, slots=True)
class Board:
    filled: tuple[Filled, ...]
    absent: int  # results of contenders that are not there
    stale: tuple[
        str, ...
    ]  # results that are shown though inputs or code have changed since; where, and whose

    def main(self, fleet: Fleet, clocks: str) -> list[Filled]:
        """Recorded traces under the main assumptions, in the order of their names."""
        found = [
            one
            for one in self.filled
            if one.cell.fleet == fleet
            and one.cell.clocks == clocks
            and one.cell.is_main
            and one.cell.trace not in MADE
        ]
        return sorted(found, key=lambda one: one.cell.trace)

    def find(self, cell: Cell) -> Filled | None:
        """By name: whatever its contenders are."""
        return next((one for one in self.filled if one.cell.name == cell.name), None)


def load(cells: Iterable[Cell], place: Place, *, stale_too: bool) -> Board:
    """What is of these inputs and this code; with `stale_too` also what is of earlier ones."""
    filled = []
    absent, stale = 0, []
    for cell in cells:
        kept = {}
        for contender in cell.contenders:
            found = read_kept(cell, contender, place)
            fresh = found is not None and is_fresh(cell, contender, place)
            if found is None or not (fresh or stale_too):
                absent += 1
            else:
                kept[contender] = found
                stale += [] if fresh else [f"{cell.name}: {contender}"]
        if kept:
            filled.append(Filled(cell, _merged(list(kept.values())), kept))
    return Board(tuple(filled), absent, tuple(stale))


def _merged(kept: Sequence[Kept]) -> Backtest:
    """The first one's world with everyone's rows: they differ in nothing but the clock set.

    A contender that moves clocks has it; the one of the cell comes first.
    """
    rows = [row for one in kept for row in one.result.contenders]
    return kept[0].result.model_copy(update={"contenders": beside_optimum(rows)})
