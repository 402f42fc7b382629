"""Which backtests the leaderboard has: fleets × traces × clocks × arrivals × parked watts.

Pure values. Owns the choice of assumptions and who runs under them. Leaves running to `runs`. A cell's clocks
are a clock set's name, or `OFF`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from minwatt.commands.backtest_run import ALWAYS, USUAL

OFF = "off"
SLACK_EXTRAS = ("static-slack", "hpa-slack", "hpa-bounded")
PINNED = "keda-rate-slow"  # needs a clock that can be set
# Whose result depends on the clock set; the others leave the clock alone and run once.
MOVE_CLOCKS = (*ALWAYS, PINNED)
# Under other assumptions than the main ones: enough to see how far each of them moves the result.
BRIEF = (*ALWAYS, "static", "hpa", "keda-rate", "static-slack")
STEP, STEADY = "step-3x", "steady"
MADE = (STEP, STEADY)  # traces that the leaderboard makes by itself


@dataclass(frozen=True, slots=True)
class Fleet:
    """A profile, its example policy, and how many replicas of `static` the busiest bin is scaled to."""

    name: str
    title: str
    profile: Path
    policy: Path
    replicas: int
    clock_sets: tuple[str, ...]


FLEETS = (
    Fleet(
        "a100",
        "A100, BERT-base INT8 (reference profile)",
        Path("profiles/reference/a100-bert-base-int8.yaml"),
        Path("examples/policy-a100.yaml"),
        20,
        ("A", "conservative"),
    ),
    Fleet(
        "t4",
        "T4, BERT-base INT8 (reference profile)",
        Path("profiles/reference/t4-bert-base-int8.yaml"),
        Path("examples/policy-t4.yaml"),
        20,
        ("A", "conservative"),
    ),
    Fleet(
        "cpu",
        "CPU, the shipped model (measured profile)",
        Path("profiles/support-text-cpu.yaml"),
        Path("examples/policy.yaml"),
        8,
        (),
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One backtest of several contenders under one set of assumptions."""

    fleet: Fleet
    trace: str
    clocks: str = OFF
    arrival_cv: float = 1.0
    parked_w: float | None = 0.0  # None: what the profile has, a card that stays powered
    contenders: tuple[str, ...] = (*ALWAYS, *USUAL, *SLACK_EXTRAS)

    @property
    def name(self) -> str:
        """Unique, and good for a file."""
        parked = "profile" if self.parked_w is None else f"{self.parked_w:g}"
        return f"{self.fleet.name}.{self.trace}.{self.clocks}.cv{self.arrival_cv:g}.parked-{parked}"

    @property
    def is_main(self) -> bool:
        """Poisson arrivals, and no watts of parked devices: a removed replica's node is released."""
        return self.arrival_cv == 1.0 and self.parked_w == 0.0

    def under_main(self) -> Cell:
        """The same under the main assumptions."""
        return replace(self, arrival_cv=1.0, parked_w=0.0)

    def home(self, contender: str) -> Cell:
        """The cell that this contender's result is kept in: clocks or none is one to those that move none."""
        return self if contender in MOVE_CLOCKS else replace(self, clocks=OFF)


def cells(fleets: Iterable[Fleet], traces: Iterable[str], short: Iterable[str]) -> Iterator[Cell]:
    """All of them. Parked watts are varied on the `short` traces and on the first GPU fleet alone."""
    traces, short, fleets = list(traces), set(short), list(fleets)
    for fleet in fleets:
        for trace in traces:
            main = Cell(fleet, trace)
            yield main
            for clocks in fleet.clock_sets:
                yield replace(main, clocks=clocks, contenders=(*main.contenders, PINNED))
    for fleet in [fleet for fleet in fleets if fleet.clock_sets][:1]:
        for trace in traces:
            for clocks in (OFF, fleet.clock_sets[0]):
                brief = Cell(fleet, trace, clocks, contenders=BRIEF)
                yield replace(brief, arrival_cv=2.0)
                if trace in short:
                    yield replace(brief, parked_w=None)
    for fleet in fleets:
        for trace in MADE:
            yield Cell(fleet, trace, contenders=ALWAYS)
