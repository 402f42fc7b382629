"""Arrivals to be ready for: several simple forecasts, each with what its own errors taught.

Pure. Called by `control` once a tick. Owns level, trend, season, record and the choice between them; the
errors' memory is `forecast_errors`.

**Experts.** Each looks ahead by the time until a decision made now has effect: the last rate; exponentially
smoothed ones (Holt 1957; Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., §8), with
memories from half a minute to a day; means of the shorter ones and the longest; one with trend; one that
moves as the same time of day moved before (from the second day on); the record of the last day. Beside each
stands the histogram of observed / expected, weighted by requests: its upper factor times the expectation is
what at most a share `miss` of requests came beyond.

- Smooth traffic is foreseen best by the last rate with a small factor.
- Bursts as high at night as at noon are foreseen by the day's level and its factor: a quantile of all rates.
- Most are in between: variance grows as a power of the level (Taylor, "Aggregation, variance and the mean",
  Nature 189, 1961), so what is needed grows slower than the level. With sqrt(level × the day's level), a
  factor bounds what grows as the root of the level.

The expert of the least loss is heard (`forecast_errors`): `miss` of what it provided for in vain, and what
came beyond it above the share that may. So are those that a handful of bursts can't tell from it. Of theirs
the mean counts: that loss is convex, as the quantile loss is (Koenker & Bassett 1978), so the mean loses no
more than they do on average (on quantiles averaged: Lichtendahl, Grushka-Cockayne, Winkler, Management
Science 59, 2013); while traffic is young, and nothing tells them apart yet, the best or, up to the record,
the highest. The record bounds how far beyond what was seen it goes.

**Both directions need evidence.** What is provided for (`upper_rps`) counts what was seen; what a fleet must
stand before it shrinks (`calm_rps`) counts, too, what has not been seen yet and may come.

**Counting noise is not change.** A constant Poisson load of rate r seen through a window of w seconds
scatters by sqrt(r / w), and the queue model plans for it already: an error counts beyond three times that
only.

**A step is met in one tick**: the forecast is never below the rate just seen, less that noise. **A gap**
teaches nothing: expectations that fell due in it are dropped, and long memories stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from scaler.forecast_errors import RECORD, Allowance, ErrorMemory
from scaler.season import Season

_SMOOTHED_OVER_S = (30.0, 300.0, 3600.0, 86_400.0)  # memories of the smoothed experts
_TREND_OVER_S = 60.0
_RECORD_HALF_S = 43_200.0  # a record is of this half day or the last
_NOISE_SIGMAS = 3.0
_CALM_SIGMAS = 4.0  # of the level, that a smaller fleet must stand: by chance once in 30,000 ticks
_CALM_OVER_S = 60.0  # memory of the mean that it must stand, too
# Mean traffic that may come beyond the forecast before it is learnt from, times the horizon. Where a start
# takes 2 s, a step is late for 2 s and no habit yet; where it takes 50 s, it has cost a day's error budget.
_FORGIVEN_S2 = 6.0
_YOUNG_HORIZONS = 12.0  # so long traffic is too little known to shrink, or to take a mean of forecasts
_GAP_WINDOWS = 3.0  # a silence longer than so many windows is a gap


@dataclass(frozen=True, slots=True)
class ForecastRules:
    window_s: float  # span of each observation
    miss: float = 0.00075  # of requests that may come beyond the forecast


@dataclass(frozen=True, slots=True)
class ForecastState:
    """Before the first observation there is no state: None, not zeros."""

    began_s: float
    at_s: float
    last_rps: float
    smoothed_rps: tuple[float, ...]  # by _SMOOTHED_OVER_S
    calm_rps: float  # mean since the load last changed
    record_rps: tuple[float, float]  # the highest rate of this half day and of the one before
    trend_rps2: float = 0.0  # requests a second, a second
    season: Season = field(default_factory=Season)
    # (due at, each expert's expectation, each expert's upper bound)
    pending: tuple[tuple[float, tuple[float, ...], tuple[float, ...]], ...] = ()
    errors: ErrorMemory = field(default_factory=ErrorMemory)


@dataclass(frozen=True, slots=True)
class Forecast:
    """`expected_rps` is what to count joules for, `upper_rps` what to have capacity for. A fleet may shrink
    only to one that stands `calm_rps` too: at a constant load, chance alone does not bring back a replica
    that was let go. It is infinite while the traffic is too little known to let one go.
    """

    expected_rps: float
    upper_rps: float
    calm_rps: float
    horizon_s: float


def update(
    state: ForecastState | None,
    now_s: float,
    observed_rps: float,
    rules: ForecastRules,
    beats_rps: tuple[float, ...] = (),
) -> ForecastState:
    """Takes in one observation; `beats_rps` are the rates of the seconds within its window, if known."""
    if state is None:
        smoothed = (observed_rps,) * len(_SMOOTHED_OVER_S)
        season = Season().after(now_s, observed_rps, rules.window_s)
        return ForecastState(
            now_s, now_s, observed_rps, smoothed, observed_rps, (observed_rps, 0.0), season=season
        )
    elapsed_s = now_s - state.at_s
    if elapsed_s <= 0:
        return state
    gap = elapsed_s > _GAP_WINDOWS * rules.window_s + 1.0
    step_s = rules.window_s if gap else elapsed_s
    known_s = now_s - state.began_s
    slope = 0.0 if gap else (observed_rps - state.last_rps) / elapsed_s
    due = [entry for entry in state.pending if now_s - step_s < entry[0] + 1e-6 <= now_s + 2e-6]
    errors = state.errors
    if due:
        _, expected, upper = due[-1]
        seen = _beyond_noise(expected, observed_rps, beats_rps, rules)
        errors = errors.after(expected, upper, seen, rules.miss)
    return ForecastState(
        began_s=state.began_s,
        at_s=now_s,
        last_rps=observed_rps,
        smoothed_rps=tuple(
            _towards(level, observed_rps, step_s, min(over_s, known_s))
            for level, over_s in zip(state.smoothed_rps, _SMOOTHED_OVER_S, strict=True)
        ),
        calm_rps=_calm_mean(state, observed_rps, step_s, rules),
        record_rps=_record(state, now_s, max((observed_rps, *beats_rps)), rules),
        trend_rps2=0.0 if gap else _towards(state.trend_rps2, slope, elapsed_s, _TREND_OVER_S),
        season=state.season.after(now_s, observed_rps, rules.window_s),
        pending=tuple(entry for entry in state.pending if entry[0] > now_s + 1e-6),
        errors=errors,
    )


def look_ahead(
    state: ForecastState, horizon_s: float, rules: ForecastRules
) -> tuple[ForecastState, Forecast]:
    """The forecast `horizon_s` from now; the state remembers it, to learn from its error."""
    expected = _expected(state, horizon_s)
    heard = state.errors.heard
    allowance = Allowance(rules.miss, horizon_s, _FORGIVEN_S2 / horizon_s / rules.window_s)
    factors = state.errors.upper_factors(allowance)
    uppers = tuple(one * factor for one, factor in zip(expected, factors, strict=True))
    least_rps = max(0.0, state.last_rps - _NOISE_SIGMAS * _scatter(state.last_rps, rules.window_s))
    record_rps, best = max(state.record_rps), heard[0]
    beyond_rps = record_rps * state.errors.record_factor(record_rps, allowance)
    reached_rps = max(beyond_rps, *(expected[expert] for expert in heard))
    bounded_rps = [min(uppers[expert], reached_rps) for expert in heard]
    young = state.at_s - state.began_s < _YOUNG_HORIZONS * horizon_s
    highest_rps = max(bounded_rps[0], min(max(bounded_rps), record_rps))
    upper_rps = max(least_rps, highest_rps if young else sum(bounded_rps) / len(heard))
    if best == RECORD:
        level_rps, calm_rps = record_rps, max(upper_rps, beyond_rps)
    else:
        level_rps = max(expected[best], state.calm_rps)
        calm_rps = max(upper_rps, level_rps * state.errors.calm_factor(best, allowance))
    calm_rps += _CALM_SIGMAS * _level_scatter(best, level_rps, rules.window_s)
    if young:
        calm_rps = math.inf
    pending = (*state.pending, (state.at_s + horizon_s, expected, uppers))
    return replace(state, pending=pending), Forecast(state.smoothed_rps[0], upper_rps, calm_rps, horizon_s)


def _expected(state: ForecastState, horizon_s: float) -> tuple[float, ...]:
    """By expert. A falling trend is not believed: scaling down waits for the surplus to be there."""
    rising = state.last_rps + max(0.0, state.trend_rps2) * horizon_s
    seasonal = state.last_rps * state.season.growth(state.at_s, horizon_s)
    usual = state.smoothed_rps[-1]
    between = tuple(math.sqrt(level * usual) for level in state.smoothed_rps[:-1])
    return (state.last_rps, *state.smoothed_rps, *between, rising, seasonal, max(state.record_rps))


def _beyond_noise(
    expected: tuple[float, ...], observed_rps: float, beats_rps: tuple[float, ...], rules: ForecastRules
) -> tuple[tuple[float, ...], ...]:
    """By expert: the rates seen, less what counting noise explains of their excess."""
    seen = beats_rps or (observed_rps,)
    span_s = rules.window_s / len(seen)
    result = []
    for one in expected:
        noise = _NOISE_SIGMAS * _scatter(one, span_s)
        result.append(tuple(max(min(rate, one), rate - noise) for rate in seen))
    return tuple(result)


def _record(
    state: ForecastState, now_s: float, highest_rps: float, rules: ForecastRules
) -> tuple[float, float]:
    highest_rps -= _NOISE_SIGMAS * _scatter(highest_rps, min(1.0, rules.window_s))
    half, half_before = (int((at_s - state.began_s) // _RECORD_HALF_S) for at_s in (now_s, state.at_s))
    this_rps, before_rps = state.record_rps if half == half_before else (0.0, state.record_rps[0])
    return max(this_rps, highest_rps), before_rps


def _calm_mean(state: ForecastState, observed_rps: float, step_s: float, rules: ForecastRules) -> float:
    """The mean goes on while the load stays near it, and begins anew where it has changed beyond noise."""
    if abs(observed_rps - state.calm_rps) > _CALM_SIGMAS * _scatter(state.calm_rps, rules.window_s):
        return observed_rps
    return _towards(state.calm_rps, observed_rps, step_s, _CALM_OVER_S)


def _scatter(rate_rps: float, window_s: float) -> float:
    return math.sqrt(max(rate_rps, 1.0 / window_s) / window_s)


def _level_scatter(expert: int, rate_rps: float, window_s: float) -> float:
    """Of a smoothed level: variance times gain / (2 - gain). Its mean with the day's scatters no more."""
    smoothed = len(_SMOOTHED_OVER_S)
    if not 1 <= expert < 2 * smoothed:
        return _scatter(rate_rps, window_s)
    gain = -math.expm1(-window_s / _SMOOTHED_OVER_S[(expert - 1) % smoothed])
    return _scatter(rate_rps, window_s) * math.sqrt(gain / (2 - gain))


def _towards(before: float, now: float, elapsed_s: float, over_s: float) -> float:
    return before + (now - before) * -math.expm1(-elapsed_s / over_s)
