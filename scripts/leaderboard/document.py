"""docs/leaderboard.md: what was asked, what came out, and what every figure rests on.

Pure: a board in, Markdown out. Owns the tables and their wording. Leaves arithmetic to `board` and
`verdicts`, pictures to `plots`. Called by `__main__`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from minwatt.commands.backtest_result import OPTIMUM, Row
from minwatt.commands.backtest_table import MISSED, figure, span
from scaler.simulate.baselines.contenders import BOUNDED_SHARE
from scripts.leaderboard.board import Board, Filled
from scripts.leaderboard.cells import BRIEF, MOVE_CLOCKS, OFF, Fleet
from scripts.leaderboard.runs import MOST_REPLICAS
from scripts.leaderboard.verdicts import Verdict

_HEAD = """# Leaderboard

Written by `make leaderboard TRACES=DIR`; do not edit. Nothing here ran on a GPU: every figure is from the
simulator (`scaler/simulate/`), which calls the planner that `minwatt up` runs. Each figure is one
`minwatt backtest`; its command stands beside its result in `out/leaderboard/`.

- **Joules** count the whole fleet, idle watts and start-ups included. They compare only between contenders
  that keep the SLO; {missed} marks one that does not, whatever it saved.
- **optimum** is the clairvoyant bound: it knows the whole trace, and has minwatt's levers.
- **Rates are scaled**, never thinned: the busiest bin of each trace is what the stated number of `static`
  replicas carries. Arrivals inside a bin are Poisson (CV 1) unless a table says otherwise.
- **Parked watts** are 0 in the main tables: a removed replica's node is released. The last tables have the
  other case.
- All contenders start from the static fleet. No power budget is set; replicas: 1 to {most} × the static
  fleet, for every contender; for `hpa-bounded` 1 to {bounded:g} ×.
"""


def document(
    board: Board, fleets: Sequence[Fleet], found: Sequence[Verdict], plots: Sequence[str], first: str = ""
) -> str:
    """The whole document. `plots`: Markdown that shows them; `first`: the part of each trace; empty: all."""
    parts = [_HEAD.format(missed=MISSED, most=MOST_REPLICAS, bounded=BOUNDED_SHARE)]
    if first:
        parts.append(f"**Not whole traces:** of each, its first {first} (`--first {first}`).\n")
    if board.stale:
        parts.append(_stale(board.stale))
    if board.absent:
        parts.append(f"**Not complete:** {board.absent} results are not there; they are left out below.\n")
    parts += ["## Against the targets\n", _verdicts(found), *plots]
    for fleet in fleets:
        parts.append(f"## {fleet.title}\n")
        for clocks in (OFF, *fleet.clock_sets):
            runs = board.main(fleet, clocks)
            if runs:
                parts += _fleet(runs, clocks)
    parts += ["## How the assumptions move the result\n", *_sensitivity(board, fleets)]
    return "\n".join(parts)


def _stale(results: Sequence[str]) -> str:
    """Which they are, by contender and cell."""
    cells_of: dict[str, list[str]] = {}
    for result in results:
        cell, contender = result.split(": ")
        cells_of.setdefault(contender, []).append(cell)
    listed = [f"- {contender}: {', '.join(cells)}" for contender, cells in cells_of.items()]
    return "\n".join(["**Not of this code:** these results are of earlier code or inputs.\n", *listed, ""])


def _verdicts(found: Sequence[Verdict]) -> str:
    marks = {True: "✓", False: MISSED, None: "–"}
    rows = [[one.target, one.where, one.found, one.optimum, marks[one.met]] for one in found]
    met, judged = sum(one.met is True for one in found), sum(one.met is not None for one in found)
    table = _table(["target", "where", "found", "the optimum's there", ""], rows)
    return (
        f"{met} of {judged} judgements met. Beside the least saving stands what the clairvoyant optimum"
        " itself saves on that trace: no policy saves more. –: nothing tells, or no target is set, as for"
        f" savings by clocks of other sets than A.\n\n{table}"
    )


def _fleet(runs: Sequence[Filled], clocks: str) -> list[str]:
    rests = runs[0].result.assumptions
    unmoved = [name for name in _names(runs) if name not in MOVE_CLOCKS]
    lever = "left alone" if clocks == OFF else f"set {clocks} ({rests.clock_basis})"
    return [
        f"### Clocks {lever}\n",
        f"Latency {rests.latency_basis}, watts {rests.watts_basis}, start-up {rests.start_up_basis}"
        f" ({rests.start_up_s:.3g} s, {rests.start_up_j:.4g} J); SLO {runs[0].result.slo_ms:g} ms,"
        f" {100 * runs[0].result.error_budget:g}% may miss it; {rests.text_tokens:g} tokens a request.\n",
        "Joules over the optimum's:\n",
        _by_trace(runs, _ratio),
        "Requests over the SLO"
        + (":\n" if clocks == OFF else " of those that move clocks; of the others as above:\n"),
        _by_trace(runs, _over, leave_out=() if clocks == OFF else unmoved),
        f"Minwatt's joules below theirs ({MISSED}: one of the two misses the SLO, so they do not compare):\n",
        _by_trace(runs, _saving, leave_out=("minwatt", OPTIMUM)),
    ]


def _by_trace(
    runs: Sequence[Filled], cell: Callable[[Filled, Row], str], leave_out: Iterable[str] = ()
) -> str:
    """A row a trace, a column a contender."""
    names = [name for name in _names(runs) if name not in leave_out]
    rows = [
        [
            one.cell.trace,
            f"{span(one.result.seconds)}, {figure(one.result.mean_rps)}/s",
            *(cell(one, row) if (row := one.row(name)) else "–" for name in names),
        ]
        for one in runs
    ]
    return _table(["trace", "length, mean", *names], rows)


def _names(runs: Sequence[Filled]) -> list[str]:
    return list(dict.fromkeys(row.name for one in runs for row in one.result.contenders))


def _ratio(_: Filled, row: Row) -> str:
    ratio = "–" if row.ratio_to_optimum is None else f"{row.ratio_to_optimum:.3f}"
    return ratio if row.keeps_slo else f"{ratio} {MISSED}"


def _over(_: Filled, row: Row) -> str:
    return f"{row.over_slo_fraction:.3%}" + ("" if row.keeps_slo else f" {MISSED}")


def _saving(one: Filled, row: Row) -> str:
    saving = one.saving(row.name)
    return MISSED if saving is None else f"{saving:.1%}"


def _sensitivity(board: Board, fleets: Sequence[Fleet]) -> list[str]:
    """Each other assumption beside the main ones, for the cells that were run under both."""
    parts = []
    for fleet in fleets:
        changed = [one for one in board.filled if one.cell.fleet == fleet and not one.cell.is_main]
        if not changed:
            continue
        rows = []
        for one in sorted(changed, key=lambda one: (one.cell.trace, one.cell.clocks)):
            main = board.find(one.cell.under_main())
            rows += [_assumed(filled) for filled in (main, one) if filled]
        kept = list(dict.fromkeys(tuple(row) for row in rows))
        heads = ["trace", "clocks", "arrivals", "parked", "minwatt × optimum", "over SLO"]
        below = [f"below {name}" for name in BRIEF if name not in ("minwatt", OPTIMUM)]
        parts += [f"### {fleet.title}\n", _table([*heads, *below], kept)]
    return parts or ["Not run.\n"]


def _assumed(one: Filled) -> list[str]:
    rests, own = one.result.assumptions, one.own
    if own is None:
        return []
    return [
        one.cell.trace,
        one.cell.clocks,
        f"CV {rests.arrival_cv:g}",
        f"{rests.parked_w:g} W",
        _ratio(one, own),
        f"{own.over_slo_fraction:.3%}",
        *(
            _saving(one, row) if (row := one.row(name)) else "–"
            for name in BRIEF
            if name not in ("minwatt", OPTIMUM)
        ),
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
