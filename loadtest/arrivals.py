"""When requests arrive: rate curves and the arrivals drawn from them.

Pure; randomness is an argument. A rate curve is a row of steps; arrivals are a renewal process of unit
rate whose clock runs at the curve's rate (inversion of the cumulated rate: Çinlar 1975; for gamma
renewals, Gerhardt and Nelson 2009), so that burstiness is chosen apart from the rate. Leaves files to
`trace`. Called by `cli`, `trace` and `minwatt profile`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.errors import UsageError

Floats = NDArray[np.float64]

POISSON_CV = 1.0
_EVEN_CV = 1e-3  # of the gaps: below, they are even to a thousandth, and the gamma's shape beyond any number
MOST_ARRIVALS = 5_000_000  # of one run: what fits in memory beside its outcomes
RAMP_STEPS = 1000  # of a rate that grows evenly
_STEPS_PER_DAY = 1440  # a diurnal curve is as fine as a day in minutes


@dataclass(frozen=True, slots=True)
class RateCurve:
    """`rates_rps[i]` requests per second from `edges_s[i]` to `edges_s[i + 1]`; 0 without data."""

    edges_s: Floats  # [steps + 1], increasing from 0
    rates_rps: Floats  # [steps], not negative

    @property
    def duration_s(self) -> float:
        return float(self.edges_s[-1])

    @property
    def expected(self) -> float:
        """Expected number of arrivals."""
        return float(np.sum(self.rates_rps * np.diff(self.edges_s)))

    def scaled(self, factor: float) -> RateCurve:
        """The same shape with `factor` times the rate."""
        return RateCurve(self.edges_s, self.rates_rps * factor)

    def first(self, duration_s: float) -> RateCurve:
        """The curve's first `duration_s`; all of it if it is shorter."""
        if duration_s >= self.duration_s:
            return self
        steps = int(np.searchsorted(self.edges_s, duration_s, side="left"))
        return RateCurve(np.append(self.edges_s[:steps], duration_s), self.rates_rps[:steps])


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day pressed into `duration_s`: night, morning rise, afternoon peak, and flash crowds on top."""

    duration_s: float
    peak_rps: float  # the highest rate, flash crowds included
    trough_fraction: float = 0.15  # lowest rate of the day's own swing, of its highest
    flash_crowds: int = 1
    flash_factor: float = 2.0  # a flash crowd's height over the rate of that moment


def flat(rate_rps: float, duration_s: float) -> RateCurve:
    """One rate throughout."""
    return RateCurve(np.array([0.0, duration_s]), np.array([rate_rps]))


def stairs(start_rps: float, peak_rps: float, steps: int, duration_s: float) -> RateCurve:
    """From one rate to the other in steps of equal height and length; many steps are a ramp."""
    return RateCurve(np.linspace(0.0, duration_s, steps + 1), np.linspace(start_rps, peak_rps, steps))


def diurnal(shape: Diurnal, rng: np.random.Generator) -> RateCurve:
    """The day's curve; `rng` places the flash crowds, each in a part of the day of its own."""
    edges = np.linspace(0.0, 1.0, _STEPS_PER_DAY + 1)
    day = (edges[:-1] + edges[1:]) / 2
    # Two harmonics: lowest near 4:00, highest near 15:00, a shoulder at noon; scaled to [trough, 1].
    wave = -np.cos(2 * np.pi * (day - 4 / 24)) - 0.25 * np.cos(4 * np.pi * (day - 4.5 / 24))
    wave = (wave - wave.min()) / (wave.max() - wave.min())
    rates = shape.trough_fraction + (1 - shape.trough_fraction) * wave
    crowds = np.zeros_like(rates)
    for index in range(shape.flash_crowds):
        # The middle 80% of the day in equal parts, so that two crowds do not fall on one another.
        starts = 0.1 + 0.8 * (index + rng.random()) / shape.flash_crowds
        crowds = np.maximum(crowds, _flash(day - starts))
    rates *= 1 + (shape.flash_factor - 1) * crowds
    return RateCurve(edges * shape.duration_s, rates * (shape.peak_rps / rates.max()))


def _flash(since: Floats) -> Floats:
    """Height in [0, 1]: up within 15 minutes of the day, down by half every half hour; `since` in days."""
    rise = np.clip(since * 96, 0.0, 1.0)
    decay = np.exp2(-np.maximum(0.0, since - 1 / 96) * 48)
    height: Floats = rise * decay
    return height


def draw(curve: RateCurve, rng: np.random.Generator, cv: float = POISSON_CV) -> Floats:
    """Sorted arrival times within the curve; none where its rate is 0.

    `cv` is the coefficient of variation of the gaps at a constant rate: 0 is even spacing, 1 Poisson, above 1
    bursty. The expected count of every step is rate × width whatever the cv.
    """
    _check_size(curve.expected)
    mass = np.concatenate([[0.0], np.cumsum(curve.rates_rps * np.diff(curve.edges_s))])
    events = _unit_renewals(float(mass[-1]), rng, cv)
    # side="right" passes over steps without mass, so that nothing lands in them.
    step = np.searchsorted(mass, events, side="right") - 1
    times: Floats = curve.edges_s[step] + (events - mass[step]) / curve.rates_rps[step]
    latest: Floats = np.nextafter(curve.edges_s[step + 1], -np.inf)
    return np.minimum(times, latest)


def place_counts(edges_s: Floats, counts: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Exactly `counts[i]` arrivals in step i, uniform inside it: a Poisson process given its counts."""
    _check_size(float(counts.sum()))
    step = np.repeat(np.arange(len(counts)), counts)
    width_s = np.diff(edges_s)[step]
    times = edges_s[step] + rng.random(len(step)) * width_s
    return np.sort(np.minimum(times, np.nextafter(edges_s[step + 1], -np.inf)))


def _check_size(expected: float) -> None:
    if expected > MOST_ARRIVALS:
        raise UsageError(
            f"the run would have {expected:,.0f} requests: at most {MOST_ARRIVALS:,} are allowed;"
            " give a shorter --duration, or a lower --rate-scale or --peak-rps"
        )


def _unit_renewals(until: float, rng: np.random.Generator, cv: float) -> Floats:
    """Events in [0, until) of a stationary renewal process of rate 1 with gamma gaps; `until` expected."""
    times = np.array([_first_gap(rng, cv)])
    while times[-1] < until:
        missing = until - times[-1]
        gaps = _gaps(int(missing + 4 * max(cv, 1.0) * np.sqrt(missing)) + 16, rng, cv)
        times = np.concatenate([times, times[-1] + np.cumsum(gaps)])
    return times[: np.searchsorted(times, until, side="left")]


def _first_gap(rng: np.random.Generator, cv: float) -> float:
    """From any moment to the next event: a uniform part of a gap drawn in proportion to its length."""
    if cv < _EVEN_CV:
        return float(rng.random())
    shape = cv**-2
    return float(rng.random() * rng.gamma(shape + 1, 1 / shape))


def _gaps(count: int, rng: np.random.Generator, cv: float) -> Floats:
    """Gaps of mean 1 and standard deviation `cv`."""
    if cv < _EVEN_CV:
        return np.ones(count)
    return rng.gamma(cv**-2, cv**2, size=count)
