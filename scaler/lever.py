"""One operating point of one replica: what it can do, and the watts it draws at each rate.

Pure. Latency and batches come from `latency`; `levers` makes the list of what a policy allows.

**Reflex.** Between two ticks a replica may drop its delay and raise its clock by itself (minwatt.v1.reflex).
So a slow clock carries what the full clock carries, as long as the backlog that gathers until the clock has
moved fits the SLO. It draws a mixture of both clocks' watts, by the share of time that the clock is raised:
the backlog, in seconds of computing at the set clock, is taken as a Brownian motion that begins at nothing,
with the drift λ/μ - 1 and the variance 1/μ a second of Poisson arrivals (Asmussen, "Applied Probability and
Queues", 2003, ch. XIII). A raise lasts the hold and the clock's delay; longer where the next follows at
once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaler.engine import Engine
from scaler.latency import BatchServer, Floats, mean_batch
from scaler.operating_point import OperatingPoint

DUE_SHARE = 0.8  # of the SLO: when the server has a text computed, or refuses it
_STEEP = 50.0  # e^50 of a backlog's usual time is never


@dataclass(frozen=True, slots=True)
class RaiseTimes:
    """`short_s`: backlog above which the clock is raised. `hold_s`, `longest_hold_s` and `delay_s`: how long
    it stays so at least, alone and in a burst that goes on, and how long it takes to move.
    """

    short_s: float
    hold_s: float
    longest_hold_s: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Lever:
    """One operating point. `engine` at the clock that is set, `raised` at the highest the reflex may ask
    for."""

    point: OperatingPoint  # of version 0: a plan does not number
    engine: Engine
    raised: Engine
    fits: int  # texts that a batch can hold, of the present length
    times: RaiseTimes

    @property
    def capacity_tps(self) -> float:
        return self.raised.capacity_tps(self.fits)

    def server(self, slo_latency_s: float) -> BatchServer:
        """At the set clock. A batch leaves before its delay where its slack is used up."""
        return BatchServer(self.engine, self.fits, self.point.max_delay_s, due_s=DUE_SHARE * slo_latency_s)

    def until_raised_s(self, arrivals_tps: float) -> float:
        """The longest that a text takes before the reflex has moved the clock.

        It waits for the backlog that raises it, the batch in the engine among it, and for what comes beyond
        the set clock's capacity meanwhile; then for its own batch.
        """
        beyond = max(0.0, arrivals_tps / self.engine.capacity_tps(self.fits) - 1)
        return self.times.short_s + beyond * self.times.delay_s + self.engine.service_s(self.fits)

    def until_refused_s(self, due_s: float) -> float:
        """Of computing, that the backlog may grow by once it raises the clock: beyond it the server takes the
        load at the set clock for one that is too much, and refuses what two batches at the full one leave no
        time for (service.admission). Half a batch comes at once.
        """
        engine = self.raised
        riding = min(float(self.fits), max(1.0, (due_s / 2 - engine.alpha_s) / engine.beta_s_per_text))
        texts = max(riding, (due_s - 2 * engine.service_s(riding)) * engine.capacity_tps(self.fits))
        backlog_s = texts / self.engine.capacity_tps(self.fits)
        return backlog_s - self.times.short_s - 0.5 * self.engine.service_s(self.fits)

    def raised_share(self, arrivals_tps: Floats, slo_latency_s: float) -> Floats:
        """Of the time, at each rate."""
        capacity_tps = self.engine.capacity_tps(self.fits)
        batch = mean_batch(self.server(slo_latency_s), np.minimum(arrivals_tps, capacity_tps))
        # Of the batch in the engine half is left on average; one that gathers for a while is all there first.
        there = 1.0 if self.point.max_delay_s else 0.5
        room_s = self.times.short_s - there * (self.engine.alpha_s + self.engine.beta_s_per_text * batch)
        load = arrivals_tps / capacity_tps
        calm_s = _reaching_s(load, 1 / capacity_tps, np.maximum(room_s, 0.0))
        # Where the clock is raised again within a hold, one after another, the hold grows to the longest.
        again = -np.expm1(-self.times.hold_s / np.maximum(calm_s, 1e-9))
        grown_s = again * (self.times.longest_hold_s - self.times.hold_s)
        lasts_s = self.times.delay_s + self.times.hold_s + grown_s
        return np.asarray(lasts_s / (lasts_s + calm_s))

    def watts(self, arrivals_tps: Floats, slo_latency_s: float) -> Floats:
        """Mean watts of one replica at each rate."""
        own = self.server(slo_latency_s)
        own_w = _watts(own, np.minimum(arrivals_tps, own.capacity_tps))
        if self.engine == self.raised:
            return own_w
        raised_w = _watts(BatchServer(self.raised, self.fits, 0.0), arrivals_tps)
        return own_w + (raised_w - own_w) * self.raised_share(arrivals_tps, slo_latency_s)


def _reaching_s(load: Floats, variance_s: float, distance_s: Floats) -> Floats:
    """Mean time until a Brownian motion that nothing lets below 0 has come so far, from 0.

    With drift m and variance v a second: x/m - v/(2m²)·(1 - e^(-2mx/v)); x²/v where there is no drift.
    """
    drift = load - 1
    steep = np.maximum(2 * drift * distance_s / variance_s, -_STEEP)
    flat = np.abs(steep) < 1e-4
    safe = np.where(flat, 1.0, drift)
    drifting_s = distance_s / safe + variance_s / (2 * safe**2) * np.expm1(-steep)
    return np.where(flat, distance_s**2 / variance_s, drifting_s)


def _watts(server: BatchServer, arrivals_tps: Floats) -> Floats:
    engine, batch = server.engine, mean_batch(server, arrivals_tps)
    batches_per_s = arrivals_tps / batch
    busy = np.minimum(1.0, batches_per_s * (engine.alpha_s + engine.beta_s_per_text * batch))
    batch_j = engine.alpha_s * engine.batch_w + engine.beta_s_per_text * batch * engine.token_w
    return np.asarray(engine.idle_w * (1 - busy) + batches_per_s * batch_j)
