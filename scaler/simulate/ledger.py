"""Adds up a simulation: joules, requests, latencies, and the times of too few and too many replicas.

Called by `run` on each step; `outcome` at the end is all it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaler.simulate.latency_grid import Mixture, quantile_s
from scaler.simulate.outcome import Outcome, Series
from scaler.simulate.served import Served

_MOST_POINTS = 2_000  # of a curve
_BARELY = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What replicas are judged by: `slo_rps`, the most that one could do within the SLO."""

    slo_rps: float
    min_replicas: int


class Ledger:
    """Of one contender over `steps` of `step_s`."""

    def __init__(self, yardstick: Yardstick, steps: int, step_s: float) -> None:
        self._yardstick = yardstick
        self._step_s = step_s
        self._point_steps = max(1, math.ceil(steps / _MOST_POINTS))
        self._total = _Sum()
        self._point = _Sum()
        self._in_point = 0
        self._points: list[tuple[float, float, float, float]] = []
        self._under_s = self._over_s = 0.0
        self._most_ready = 0

    def step(self, served: Served, ready: int) -> None:
        """A step with data; `ready` at its end."""
        step_s, yardstick = self._step_s, self._yardstick
        self._total.add(served, step_s)
        self._point.add(served, step_s)
        self._most_ready = max(self._most_ready, ready)
        rate_rps, replicas = served.arrivals / step_s, served.ready_s / step_s
        if rate_rps > replicas * yardstick.slo_rps * _BARELY:
            self._under_s += step_s
        elif replicas - 1 >= yardstick.min_replicas and rate_rps <= (replicas - 1) * yardstick.slo_rps:
            self._over_s += step_s
        self._next()

    def gap(self, served: Served) -> None:
        """A step without data; `served`: what was still in the fleet when it began."""
        self._total.add(served, 0.0)
        self._next()

    def rest(self, served: Served) -> None:
        """What was still in the fleet at the end."""
        self._total.add(served, 0.0)

    def outcome(self, contender: str, reversals: int) -> Outcome:
        total, mixture = self._total.served, self._total.latencies
        requests, refused, failed = round(total.arrivals), round(total.refused), round(total.failed)
        weights = mixture.weights()
        if self._in_point:
            self._close_point()
        return Outcome(
            contender=contender,
            seconds=self._total.seconds,
            requests=requests,
            answered=requests - refused - failed,
            refused=refused,
            failed=failed,
            over_slo=total.over,
            idle_j=max(0.0, total.idle_j) + total.parked_j,
            busy_j=total.busy_j,
            startup_j=total.startup_j,
            p50_ms=1e3 * quantile_s(weights, 50),
            p99_ms=1e3 * quantile_s(weights, 99),
            batch_mean=total.computed / total.batches if total.batches else 0.0,
            replicas_mean=total.ready_s / self._total.seconds if self._total.seconds else 0.0,
            replicas_max=self._most_ready,
            reversals=reversals,
            underprovisioned_s=self._under_s,
            overprovisioned_s=self._over_s,
            series=self._series(),
        )

    def _next(self) -> None:
        self._in_point += 1
        if self._in_point == self._point_steps:
            self._close_point()

    def _close_point(self) -> None:
        served, seconds = self._point.served, self._point.seconds
        if seconds > 0:
            idle_j = max(0.0, served.idle_j) + served.parked_j
            joules = idle_j + served.busy_j + served.startup_j
            answered = served.answered > 0
            p99_ms = 1e3 * self._point.latencies.quantile_s(99) if answered else math.nan
            point = (served.arrivals / seconds, served.ready_s / seconds, p99_ms, joules / seconds)
        else:
            point = (math.nan,) * 4
        self._points.append(point)
        self._point = _Sum()
        self._in_point = 0

    def _series(self) -> Series:
        columns = np.array(self._points, dtype=np.float64).reshape(-1, 4)
        t_s = np.arange(len(columns), dtype=np.float64) * (self._point_steps * self._step_s)
        return Series(t_s, columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])


class _Sum:
    """Served, the latencies apart, and the seconds that it took."""

    def __init__(self) -> None:
        self.served = Served()
        self.latencies = Mixture()
        self.seconds = 0.0

    def add(self, served: Served, seconds: float) -> None:
        self.served.add(served)
        self.seconds += seconds
        for shape, requests in served.latencies:
            self.latencies.add(shape, requests)
