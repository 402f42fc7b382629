"""Which points a profile measures, and what a point's reports and outcomes add up to.

Pure. Called by `measure`, which has the processes and the clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.outcomes import Outcome
from scaler.profile import Point
from scaler.report import Metered, Report

LEFT_ALONE = 0  # MHz: the card's clock is its own


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant, clock, operating point and text length; several loads are offered to it."""

    variant: str
    max_batch_texts: int
    max_delay_s: float
    text_tokens: int
    sm_clock_mhz: int = LEFT_ALONE


@dataclass(frozen=True, slots=True)
class Grid:
    """What to sweep. Loads are fractions of the cell's own throughput, measured first, closed loop."""

    variants: tuple[str, ...]
    batches: tuple[int, ...]
    delays_s: tuple[float, ...]
    text_tokens: tuple[int, ...]
    loads: tuple[float, ...]
    clocks_mhz: tuple[int, ...] = (LEFT_ALONE,)

    def cells(self) -> list[Cell]:
        """Every cell once: with a batch of one text there is nothing to wait for, so one delay will do."""
        combined = itertools.product(
            self.variants, self.clocks_mhz, self.text_tokens, self.batches, self.delays_s
        )
        wanted = (
            Cell(variant, batch, 0.0 if batch == 1 else delay_s, tokens, mhz)
            for variant, mhz, tokens, batch, delay_s in combined
        )
        return list(dict.fromkeys(wanted))

    def places(self) -> dict[tuple[Cell, float], int]:
        """Each loaded point's place in the sweep: its arrivals are drawn from it and the seed alone."""
        return {pair: place for place, pair in enumerate(itertools.product(self.cells(), self.loads))}

    @property
    def full_clock_mhz(self) -> int:
        return max(self.clocks_mhz)

    @property
    def most_padded_tokens(self) -> int:
        """Of a full batch of the longest texts."""
        return max(self.batches) * max(self.text_tokens)

    def __len__(self) -> int:
        """Points: the loaded ones, and one idle point of each variant."""
        return len(self.cells()) * len(self.loads) + len(self.variants)


class TooFewReportsError(Exception):
    """A point whose span saw fewer than two reports has no rates."""


def point_of(cell: Cell, offered_rps: float, reports: Sequence[Report], outcomes: Sequence[Outcome]) -> Point:
    """The point that the reports received in a steady span (at least two) and its outcomes add up to.

    Rates and watts are differences of the counters of the first and the last report; latencies are the
    percentiles of what the server said of each answered request.
    """
    if len(reports) < 2:
        raise TooFewReportsError(f"{len(reports)} reports in the span; at least 2 are needed")
    first, last = reports[0], reports[-1]
    span_s = last.received_s - first.received_s
    batches = last.batches_total - first.batches_total
    texts = last.batched_texts_total - first.batched_texts_total
    server_s = [seconds for outcome in outcomes if (seconds := outcome.server_s) is not None]
    return Point(
        variant=cell.variant,
        sm_clock_mhz=cell.sm_clock_mhz,
        max_batch_texts=cell.max_batch_texts,
        max_delay_s=cell.max_delay_s,
        text_tokens=(last.padded_tokens_total - first.padded_tokens_total) / texts
        if texts
        else cell.text_tokens,
        offered_rps=offered_rps,
        completed_rps=(last.completions_total - first.completions_total) / span_s,
        p50_s=float(np.percentile(server_s, 50)) if server_s else None,
        p99_s=float(np.percentile(server_s, 99)) if server_s else None,
        batch_mean_texts=texts / batches if batches else None,
        compute_s_per_batch=(last.busy_s_total - first.busy_s_total) / batches if batches else None,
        watts=mean_watts(first, last),
        duration_s=span_s,
    )


def idle_point(cell: Cell, first: Report, last: Report) -> Point:
    """Watts without load: the fit's idle watts must not be an extrapolation."""
    return Point(
        variant=cell.variant,
        sm_clock_mhz=cell.sm_clock_mhz,
        max_batch_texts=cell.max_batch_texts,
        max_delay_s=cell.max_delay_s,
        text_tokens=cell.text_tokens,
        offered_rps=0.0,
        completed_rps=0.0,
        p50_s=None,
        p99_s=None,
        batch_mean_texts=None,
        compute_s_per_batch=None,
        watts=mean_watts(first, last),
        duration_s=last.received_s - first.received_s,
    )


def mean_watts(first: Report, last: Report) -> float | None:
    """Joules over seconds between two reports; None where the meter gave none."""
    if not (isinstance(first.power, Metered) and isinstance(last.power, Metered)):
        return None
    before_j, after_j = first.power.joules_total, last.power.joules_total
    if before_j is None or after_j is None:
        return None
    return (after_j - before_j) / (last.received_s - first.received_s)


def text_of(tokens: int) -> str:
    """A text of that many tokens, [CLS] and [SEP] among them, for any vocabulary with the word `a`."""
    return " ".join(["a"] * max(1, tokens - 2))
