"""What a trace is once it is read: counts by bin, or the time of every request. Pure.

Made by `trace` and `trace_formats`, fitted to a run by `trace`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loadtest.arrivals import Floats, RateCurve
from minwatt.v1.errors import UsageError

MOST_BINS = 10_000_000
REBIN_S = 1.0  # one row a request becomes bins of this width when its rate is scaled


@dataclass(frozen=True, slots=True)
class BinnedTrace:
    """`counts[i]` requests from i × `bin_s` on; NaN where no data was collected."""

    bin_s: float
    counts: Floats  # [bins]

    @property
    def duration_s(self) -> float:
        return self.bin_s * len(self.counts)

    @property
    def gap_s(self) -> float:
        """Seconds without data."""
        return self.bin_s * int(np.isnan(self.counts).sum())

    def first(self, duration_s: float) -> BinnedTrace:
        """The bins that begin within `duration_s`."""
        return BinnedTrace(self.bin_s, self.counts[: max(1, math.ceil(duration_s / self.bin_s))])

    def edges_s(self) -> Floats:
        return np.arange(len(self.counts) + 1, dtype=np.float64) * self.bin_s

    def curve(self) -> RateCurve:
        return RateCurve(self.edges_s(), np.nan_to_num(self.counts, nan=0.0) / self.bin_s)


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """The time of every request, sorted, from 0."""

    t_s: Floats

    @property
    def duration_s(self) -> float:
        """To the last request, and one mean gap more: as long as its rate is true."""
        last_s = float(self.t_s[-1])
        return last_s + last_s / max(1, len(self.t_s) - 1) if last_s > 0 else 1.0

    def binned(self, bin_s: float) -> BinnedTrace:
        if self.duration_s > MOST_BINS * bin_s:
            long_s = self.duration_s / bin_s * REBIN_S
            raise UsageError(f"the trace is {long_s:g} s long: at most {MOST_BINS:,} s can be scaled")
        bins = max(1, math.ceil(self.duration_s / bin_s))
        counts = np.bincount(np.minimum((self.t_s / bin_s).astype(np.int64), bins - 1), minlength=bins)
        return BinnedTrace(bin_s, counts.astype(np.float64))


Trace = BinnedTrace | RequestTrace
