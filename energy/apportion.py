"""Who used the joules: a meter's joules shared out to idle time and to requests; the parts sum to the meter.

Owns the ledger and the exact split; knows no clock: readings bring their time. Leaves measuring to the
meters. Called by the server: `charge` when a batch is answered, `observe` with each reading of its meter.

Joules are whole nanojoules in here, so that sums are exact whatever the order; outside they are floats.

A reply wants its joules at once, but the meter tells a window's joules only when the window ends. So a batch
is charged at a price (active joules per second of compute, learned from the windows before), and what was
charged too much or too little is carried into what the batches that follow are charged.

Of each window between two readings, with idle watts known:

    idle   = idle_w · span            (all of it when nothing was computed)
    active = metered - idle           (shared among the window's batches by their compute seconds)
    carry += active - charged         (less the part of batches answered before there was a price)

A window whose reading is Unknown stays open: its joules come with the next reading. A ledger shares out all
that its meter reads, also what other processes on the same device used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from energy.reading import Reading, Unknown

NJ_PER_J = 1_000_000_000
PRICE_HALF_LIFE_S = 1.0  # compute-seconds after which a window weighs half as much in the price
LEAST_COMPUTE_S = 0.05  # a price learned from less compute than this is mostly noise: not used


class _Known(Protocol):
    """What a ledger asks of a meter."""

    @property
    def opening_j(self) -> float | None: ...

    @property
    def idle_w(self) -> float | None: ...

    @property
    def busy_w_per_core(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Totals:
    """Where the joules went. start_up + idle + requests + unpriced + carry = metered, to the nanojoule.

    metered_j: from the meter's opening to its last reading.
    start_up_j: from the opening to the first reading, where the ledger's first window begins.
    idle_j: in windows, by the device's being on.
    requests_j: charged to requests.
    unpriced_j: active joules of batches answered before there was a price; their requests got None.
    carry_j: active joules not charged yet (negative: charged too much); the next batches settle it.
    """

    metered_j: float
    start_up_j: float
    idle_j: float
    requests_j: float
    unpriced_j: float
    carry_j: float


@dataclass(frozen=True, slots=True)
class Window:
    """One closed window: its span, what the meter said of it, and what its batches were charged meanwhile."""

    span_s: float
    metered_j: float
    idle_j: float
    active_j: float
    charged_j: float
    compute_s: float


@dataclass(slots=True)
class _OpenWindow:
    compute_s: float = 0.0
    unpriced_compute_s: float = 0.0
    charged_nj: int = 0
    settled_nj: int = 0  # the part of charged_nj that settles the carry the window began with


def split(whole: int, weights: Sequence[int]) -> tuple[int, ...]:
    """`whole` in parts by weights, each within 1 of its exact share; the parts sum to the whole.

    whole, weights: not negative, at least one weight, else ValueError. Weights all zero share evenly.
    Part i is the step that ⌊whole · w / Σw⌋ makes over cumulative w.
    """
    if not weights:
        raise ValueError("weights = []: at least one is needed")
    if whole < 0 or min(weights) < 0:
        raise ValueError(f"whole = {whole}, weights = {list(weights)}: must not be negative")
    if not any(weights):
        weights = [1] * len(weights)
    total = sum(weights)
    parts: list[int] = []
    seen = shared = 0
    for weight in weights:
        seen += weight
        upto = whole * seen // total
        parts.append(upto - shared)
        shared = upto
    return tuple(parts)


class Ledger:
    """Shares a meter's joules among idle time and requests.

    idle_w: idle watts of the device; None: the lowest mean of a window without compute, and until there is
        one, all joules of a window with compute are active.
    price_w: first price, active joules per compute-second; None: requests get None until a price is learned.
    opening_j: the meter's joules when it was opened; None: not known, then nothing is counted as start-up.
    """

    def __init__(self, idle_w: float | None, price_w: float | None, opening_j: float | None = 0.0) -> None:
        self._opening_j = opening_j
        self._idle_w = idle_w
        self._idle_is_learned = idle_w is None
        self._first_price_w = price_w
        self._last: Reading | None = None
        # Decayed sums over closed windows; their ratio is the price: much compute outweighs little.
        self._learned_j = 0.0
        self._learned_compute_s = 0.0
        self._open = _OpenWindow()
        self._settle_over_s = 1.0  # compute-seconds of the last window that had any
        self._start_up_nj = self._idle_nj = self._requests_nj = self._unpriced_nj = self._carry_nj = 0

    @classmethod
    def of(cls, meter: _Known, engine_threads: int) -> Ledger:
        """For a meter and an engine of so many threads: the first price takes all of them as busy cores."""
        core_w = meter.busy_w_per_core
        price_w = None if core_w is None else core_w * engine_threads
        return cls(idle_w=meter.idle_w, price_w=price_w, opening_j=meter.opening_j)

    @property
    def price_w(self) -> float | None:
        """Active joules per compute-second, the carry left aside; None while unknown."""
        if self._learned_compute_s >= LEAST_COMPUTE_S:
            return self._learned_j / self._learned_compute_s
        return self._first_price_w

    @property
    def totals(self) -> Totals:
        requests_nj = self._requests_nj + self._open.charged_nj
        carry_nj = self._carry_nj - self._open.charged_nj
        lines_nj = (self._start_up_nj, self._idle_nj, requests_nj, self._unpriced_nj, carry_nj)
        return Totals(*(nj / NJ_PER_J for nj in (sum(lines_nj), *lines_nj)))

    def charge(self, compute_s: float, request_tokens: Sequence[int]) -> tuple[float, ...] | None:
        """A batch has been computed: joules of each of its requests.

        compute_s: the batch's time in the engine. request_tokens: tokens of each request in the batch.
        None while there is no price, and before the meter's first reading (those joules are start-up).
        """
        if not 0 <= compute_s < math.inf:
            raise ValueError(f"compute_s = {compute_s}: must be finite, at least 0")
        if self._last is None:
            return None
        window, price_w = self._open, self.price_w
        compute_s = round(compute_s, 9)
        window.compute_s += compute_s
        if price_w is None:
            window.unpriced_compute_s += compute_s
            return None
        due_nj = round(price_w * compute_s * NJ_PER_J)
        settlement_nj = self._settlement_nj(compute_s, due_nj)
        window.settled_nj += settlement_nj
        window.charged_nj += due_nj + settlement_nj
        return tuple(nj / NJ_PER_J for nj in split(due_nj + settlement_nj, request_tokens))

    def _settlement_nj(self, compute_s: float, due_nj: int) -> int:
        """This batch's part of the carry, which is spread over as much compute as the last window had.

        All parts of a window together are never more than the carry: else a window with ten times the compute
        would settle ten times the carry, and the error would grow from window to window. And a part at most
        doubles or halves what is due, so that one odd window does not make later requests look free.
        """
        left_nj = self._carry_nj - self._open.settled_nj
        part_nj = round(self._carry_nj * min(1.0, compute_s / self._settle_over_s))
        if self._carry_nj > 0:
            return min(part_nj, left_nj, due_nj)
        return max(part_nj, left_nj, -due_nj // 2)

    def observe(self, reading: Reading | Unknown) -> Window | None:
        """The meter was read: closes the window since the last Reading.

        None at the first Reading and at an Unknown. Raises ValueError if the meter went back.
        """
        if isinstance(reading, Unknown):
            return None
        last, self._last = self._last, reading
        if last is None:
            opening_j = reading.joules_total if self._opening_j is None else self._opening_j
            self._start_up_nj = _nj(reading.joules_total) - _nj(opening_j)
            return None
        metered_nj = _nj(reading.joules_total) - _nj(last.joules_total)
        span_s = reading.at_s - last.at_s
        if metered_nj < 0 or span_s < 0:
            raise ValueError(f"the meter went back: {last} then {reading}")
        return self._close(span_s, metered_nj)

    def _close(self, span_s: float, metered_nj: int) -> Window:
        window, self._open = self._open, _OpenWindow()
        if window.compute_s > 0:
            idle_nj = min(metered_nj, _nj((self._idle_w or 0.0) * span_s))
            active_nj = metered_nj - idle_nj
            unpriced_nj = round(active_nj * (window.unpriced_compute_s / window.compute_s))
            self._settle_over_s = window.compute_s
            self._learn_price(window.compute_s, active_nj)
        else:
            idle_nj, active_nj, unpriced_nj = metered_nj, 0, 0
            self._learn_idle(span_s, metered_nj)
        self._idle_nj += idle_nj
        self._unpriced_nj += unpriced_nj
        self._requests_nj += window.charged_nj
        self._carry_nj += active_nj - unpriced_nj - window.charged_nj
        return Window(
            span_s=span_s,
            metered_j=metered_nj / NJ_PER_J,
            idle_j=idle_nj / NJ_PER_J,
            active_j=active_nj / NJ_PER_J,
            charged_j=window.charged_nj / NJ_PER_J,
            compute_s=window.compute_s,
        )

    def _learn_price(self, compute_s: float, active_nj: int) -> None:
        keep = 0.5 ** (compute_s / PRICE_HALF_LIFE_S)
        self._learned_j = keep * self._learned_j + active_nj / NJ_PER_J
        self._learned_compute_s = keep * self._learned_compute_s + compute_s

    def _learn_idle(self, span_s: float, metered_nj: int) -> None:
        if self._idle_is_learned and span_s > 0:
            mean_w = metered_nj / NJ_PER_J / span_s
            self._idle_w = mean_w if self._idle_w is None else min(self._idle_w, mean_w)


def _nj(joules: float) -> int:
    return round(joules * NJ_PER_J)
