"""Each target of the project beside what the leaderboard shows of it, missed ones too.

Pure. Owns the targets and their arithmetic. A saving counts only where both sides keep the SLO; where the
other side misses it, the trace proves nothing and is counted as such. Called by `__main__`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from minwatt.commands.backtest_result import MINWATT, OPTIMUM
from scripts.leaderboard.board import Board, Filled
from scripts.leaderboard.cells import OFF, PINNED, STEADY, STEP, Cell, Fleet

_BURSTY = "azure_llm_code_2023_part1"
_NASA = "nasa"
_CLOCK_TARGETS_SET = "A"  # savings by clocks are asked for with this set; others are shown beside it
_REGENERATED = "servegen_deepseek_r1_24h_regen_1s"
_MOST_OVER = 0.001
_STEADY_REVERSALS_A_SECOND = 1 / 600


@dataclass(frozen=True, slots=True)
class Verdict:
    """`met` is None where nothing was run that tells, and where no target is set: shown for comparison.

    `optimum`: the same of the optimum on that trace, which no policy can beat.
    """

    target: str
    where: str  # the fleet and the clocks
    found: str
    met: bool | None
    optimum: str = ""


def verdicts(board: Board, fleets: Sequence[Fleet]) -> list[Verdict]:
    """In the order of the targets; one for each fleet and clock set that it is about."""
    found: list[Verdict] = []
    for fleet in fleets:
        for clocks in (OFF, *fleet.clock_sets):
            runs = board.main(fleet, clocks)
            where = f"{fleet.name}, clocks {clocks}"
            found += [_over_slo(runs, where), *_ratios(runs, where), *_thin(runs, where)]
            if fleet.clock_sets:
                found += _savings(runs, where, clocks)
            found += _bursts(runs, where, clocks)
        found += _course(board, fleet)
    return sorted(found, key=lambda one: _ORDER.index(one.target))


_SLO_TARGET = "at most 0.1% of requests over the SLO, on every trace"
_MEDIAN_TARGET = "traces with 1,000 requests a bin or more: median at most 1.05 × the optimum"
_WORST_TARGET = "the same traces: worst at most 1.20 × the optimum"
_THIN_TARGET = "thinly counted traces (NASA): never above the HPA tuned in hindsight"
_OTHER_THIN = "no target: the other thinly counted traces against the HPA tuned in hindsight"
_HPA_TARGET = "at least 60% below the HPA"
_BOUNDED_TARGET = "at least 35% below the HPA bounded at 1.5 × the static fleet"
_KEDA_OFF_TARGET = "clocks off: at least 5% below KEDA on request rate"
_KEDA_CLOCK_TARGET = "with the clock lever: at least 20% below KEDA on request rate"
_PINNED_TARGET = "with the clock lever: at least 8% below KEDA with the slowest clock pinned"
_BURST_TARGET = f"{_BURSTY}: within the SLO, at no more joules than static-slack"
_REFLEX_TARGET = f"{_BURSTY}, with clocks: below static-slack"
_REGENERATED_TARGET = f"{_REGENERATED}: at most 1.25 × the optimum"
_STEP_TARGET = "a 3 × step recovered within a start-up + 10 s"
_STEADY_TARGET = "at most one reversal in 10 minutes of steady load"
_ORDER = (
    _SLO_TARGET,
    _MEDIAN_TARGET,
    _WORST_TARGET,
    _THIN_TARGET,
    _OTHER_THIN,
    _HPA_TARGET,
    _BOUNDED_TARGET,
    _KEDA_OFF_TARGET,
    _KEDA_CLOCK_TARGET,
    _PINNED_TARGET,
    _BURST_TARGET,
    _REFLEX_TARGET,
    _REGENERATED_TARGET,
    _STEP_TARGET,
    _STEADY_TARGET,
)


def _over_slo(runs: Sequence[Filled], where: str) -> Verdict:
    over = [(one.own.over_slo_fraction, one.cell.trace) for one in runs if one.own]
    if not over:
        return Verdict(_SLO_TARGET, where, "not run", None)
    worst, trace = max(over)
    return Verdict(
        _SLO_TARGET, where, f"worst {worst:.3%} ({trace}), {len(over)} traces", worst <= _MOST_OVER
    )


def _ratios(runs: Sequence[Filled], where: str) -> list[Verdict]:
    """Of minwatt over the optimum. Where minwatt misses the SLO its joules count for nothing: not met."""
    thick = sorted((ratio, one.cell.trace) for one in runs if one.is_thick for ratio in _ratio(one))
    missing = sum(1 for one in runs if one.is_thick and one.own and not one.own.keeps_slo)
    rest = f"; {missing} traces where minwatt misses the SLO" if missing else ""
    if not thick:
        said, met = (f"none{rest}", False) if missing else ("not run", None)
        return [Verdict(target, where, said, met) for target in (_MEDIAN_TARGET, _WORST_TARGET)]
    median, (worst, trace) = statistics.median(ratio for ratio, _ in thick), thick[-1]
    said = f"{median:.3f} of {len(thick)} traces{rest}"
    return [
        Verdict(_MEDIAN_TARGET, where, said, median <= 1.05 and not missing),
        Verdict(_WORST_TARGET, where, f"{worst:.3f} ({trace}){rest}", worst <= 1.20 and not missing),
    ]


def _ratio(one: Filled) -> list[float]:
    """None where minwatt misses the SLO."""
    own = one.own
    return [own.ratio_to_optimum] if own and own.keeps_slo and own.ratio_to_optimum else []


def _thin(runs: Sequence[Filled], where: str) -> list[Verdict]:
    found = []
    for target, nasa in ((_THIN_TARGET, True), (_OTHER_THIN, False)):
        thin = [
            one for one in runs if not one.is_thick and one.own and one.cell.trace.startswith(_NASA) == nasa
        ]
        savings = [(saving, one.cell.trace) for one in thin for saving in _known(one, "hpa-tuned")]
        missing = sum(1 for one in thin if one.own and not one.own.keeps_slo)
        rest = f"; {missing} traces where minwatt misses the SLO" if missing else ""
        if savings:
            least, trace = min(savings)
            met = least >= 0 and not missing
            said = f"least saving {least:.1%} ({trace}){rest}"
            found.append(Verdict(target, where, said, met if nasa else None))
        elif missing:
            found.append(Verdict(target, where, f"none{rest}", False if nasa else None))
    return found


def _known(one: Filled, baseline: str, of: str = MINWATT) -> list[float]:
    saving = one.saving(baseline, of)
    return [] if saving is None else [saving]


def _savings(runs: Sequence[Filled], where: str, clocks: str) -> list[Verdict]:
    found = [
        _saving(runs, where, _HPA_TARGET, "hpa", 0.60),
        _saving(runs, where, _BOUNDED_TARGET, "hpa-bounded", 0.35),
    ]
    if clocks == OFF:
        return [*found, _saving(runs, where, _KEDA_OFF_TARGET, "keda-rate", 0.05)]
    by_clocks = [
        _saving(runs, where, _KEDA_CLOCK_TARGET, "keda-rate", 0.20),
        _saving(runs, where, _PINNED_TARGET, PINNED, 0.08),
    ]
    if clocks != _CLOCK_TARGETS_SET:
        by_clocks = [replace(one, met=None) for one in by_clocks]
    return [*found, *by_clocks]


def _saving(runs: Sequence[Filled], where: str, target: str, baseline: str, least: float) -> Verdict:
    savings = sorted((saving, one.cell.trace) for one in runs for saving in _known(one, baseline))
    unclear = sum(1 for one in runs if one.row(baseline) and one.saving(baseline) is None)
    rest = f"; {unclear} traces where one of the two misses the SLO" if unclear else ""
    if not savings:
        return Verdict(target, where, f"no trace where both keep the SLO{rest}" if runs else "not run", None)
    lowest, trace = savings[0]
    median = statistics.median(saving for saving, _ in savings)
    found = f"least {lowest:.1%} ({trace}), median {median:.1%} of {len(savings)} traces{rest}"
    bound = [one for run in runs if run.cell.trace == trace for one in _known(run, baseline, OPTIMUM)]
    return Verdict(target, where, found, lowest >= least, f"{bound[0]:.1%}" if bound else "")


def _bursts(runs: Sequence[Filled], where: str, clocks: str) -> list[Verdict]:
    by_trace = {one.cell.trace: one for one in runs}
    found = []
    bursty = by_trace.get(_BURSTY)
    if bursty and bursty.own and (static := bursty.row("static-slack")):
        ratio = bursty.own.energy_j / static.energy_j
        said = f"{bursty.own.over_slo_fraction:.3%} over the SLO, {ratio:.3f} × static-slack"
        met = bursty.own.keeps_slo and (ratio <= 1 if clocks == OFF else ratio < 1)
        found.append(Verdict(_BURST_TARGET if clocks == OFF else _REFLEX_TARGET, where, said, met))
    regenerated = by_trace.get(_REGENERATED)
    ratios = _ratio(regenerated) if regenerated else []
    return found + [Verdict(_REGENERATED_TARGET, where, f"{one:.3f}", one <= 1.25) for one in ratios]


def _course(board: Board, fleet: Fleet) -> list[Verdict]:
    """On the two made traces, clocks off."""

    def step(one: Filled) -> tuple[str, bool]:
        own, allowed_s = one.own, one.result.assumptions.start_up_s + 10
        under_s = own.underprovisioned_s if own else 0.0
        return f"{under_s:.0f} s with too few replicas; allowed {allowed_s:.0f} s", under_s <= allowed_s

    def steady(one: Filled) -> tuple[str, bool]:
        reversals, allowed = (
            one.own.reversals if one.own else 0,
            one.result.seconds * _STEADY_REVERSALS_A_SECOND,
        )
        return f"{reversals} in {one.result.seconds / 60:.0f} min", reversals <= allowed

    return [
        _made(board, Cell(fleet, STEP), _STEP_TARGET, step),
        _made(board, Cell(fleet, STEADY), _STEADY_TARGET, steady),
    ]


def _made(board: Board, cell: Cell, target: str, judge: Callable[[Filled], tuple[str, bool]]) -> Verdict:
    where = f"{cell.fleet.name}, clocks {cell.clocks}"
    found = board.find(cell)
    return Verdict(target, where, *judge(found)) if found else Verdict(target, where, "not run", None)
