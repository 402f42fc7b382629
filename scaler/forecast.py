"""Arrivals to be ready for: level and trend of what came so far, plus what the forecast's own errors teach.

Pure. Holt's linear method (Holt 1957; Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", 3rd
ed., §8.2) on arrivals a second, looked ahead by the time until a decision made now has effect. Called by
`control` once a tick.

Counting noise is not change: a constant Poisson load of rate r seen through a window of w seconds scatters by
sqrt(r / w), and the queue model already plans for it. A trend counts only beyond that scatter, and so do
errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

_LEVEL_GAIN = 0.6  # of a new observation, at the smallest tick
_TREND_GAIN = 0.3
_ERRORS_KEPT = 60  # ticks; fewer teach nothing: one flash crowd would be a tenth of them
_STEADY_KEPT = 60  # ticks
_CHANGE_SIGMAS = 3.0  # a level this far from the steady mean is another load
_CALM_SIGMAS = 4.5  # of the level, that a smaller fleet must stand: once in 100,000 ticks by chance


@dataclass(frozen=True, slots=True)
class ForecastRules:
    window_s: float  # span of each observation
    quantile: float = 0.9  # of its own errors


@dataclass(frozen=True, slots=True)
class ForecastState:
    """Before the first observation there is no state: None, not zeros."""

    at_s: float
    level_rps: float
    trend_rps2: float  # requests a second, a second
    pending: tuple[tuple[float, float], ...] = ()  # (due at, expected): to be held against what comes
    errors_rps: tuple[float, ...] = ()  # observed - expected, newest last
    steady_rps: float = 0.0  # mean since the load last changed
    steady_ticks: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """`upper_rps` is what to have capacity for. A fleet may shrink only to one that stands `calm_rps` too:
    at a constant load, chance alone does not bring back a replica that was let go.
    """

    expected_rps: float
    upper_rps: float
    calm_rps: float
    horizon_s: float


def update(
    state: ForecastState | None, now_s: float, observed_rps: float, rules: ForecastRules
) -> ForecastState:
    """Takes in one observation."""
    if state is None or now_s <= state.at_s:
        return state or ForecastState(now_s, observed_rps, 0.0, steady_rps=observed_rps, steady_ticks=1)
    elapsed_s = now_s - state.at_s
    predicted = max(0.0, state.level_rps + state.trend_rps2 * elapsed_s)
    level = predicted + _LEVEL_GAIN * (observed_rps - predicted)
    slope = (level - state.level_rps) / elapsed_s
    trend = state.trend_rps2 + _TREND_GAIN * (slope - state.trend_rps2)
    due = [expected for due_s, expected in state.pending if due_s <= now_s]
    errors = state.errors_rps + tuple(observed_rps - expected for expected in due[-1:])
    steady, ticks = _steady(state, level, observed_rps, rules)
    return ForecastState(
        at_s=now_s,
        level_rps=level,
        trend_rps2=trend,
        pending=tuple(entry for entry in state.pending if entry[0] > now_s),
        errors_rps=errors[-_ERRORS_KEPT:],
        steady_rps=steady,
        steady_ticks=ticks,
    )


def _steady(
    state: ForecastState, level_rps: float, observed_rps: float, rules: ForecastRules
) -> tuple[float, int]:
    """The mean goes on while the level stays near it, and begins anew there when the load has changed."""
    if abs(level_rps - state.steady_rps) > _CHANGE_SIGMAS * _level_scatter(state.steady_rps, rules):
        return level_rps, 1
    ticks = min(state.steady_ticks + 1, _STEADY_KEPT)
    return state.steady_rps + (observed_rps - state.steady_rps) / ticks, ticks


def _scatter(rate_rps: float, rules: ForecastRules) -> float:
    return math.sqrt(max(rate_rps, 1.0) / rules.window_s)


def _level_scatter(rate_rps: float, rules: ForecastRules) -> float:
    """Of the exponentially smoothed level: variance times gain / (2 - gain)."""
    return _scatter(rate_rps, rules) * math.sqrt(_LEVEL_GAIN / (2 - _LEVEL_GAIN))


def look_ahead(
    state: ForecastState, horizon_s: float, rules: ForecastRules
) -> tuple[ForecastState, Forecast]:
    """The forecast `horizon_s` from now; the state remembers it, to learn from its error.

    A falling trend is not believed: scaling down waits for the surplus to be there.
    """
    scatter = _scatter(state.level_rps, rules)
    rise = max(0.0, state.trend_rps2 * horizon_s - 1.5 * scatter)
    expected = state.level_rps + rise
    excess = max(0.0, _quantile(state.errors_rps, rules.quantile) - 2 * scatter)
    upper = expected + excess
    calm = max(upper, state.steady_rps) + _CALM_SIGMAS * _level_scatter(state.level_rps, rules)
    pending = (*state.pending, (state.at_s + horizon_s, expected))
    forecast = Forecast(expected, upper, calm, horizon_s)
    return replace(state, pending=pending), forecast


def _quantile(values: tuple[float, ...], quantile: float) -> float:
    """0 until enough errors are known."""
    if len(values) < _ERRORS_KEPT:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(quantile * len(ordered)) - 1)]
