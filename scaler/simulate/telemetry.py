"""What a contender gets to see of the fleet: the last steps, late by the telemetry's delay.

Pure. Called by `run` on each step and before each decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from scaler.simulate.contender import Seen
from scaler.simulate.fleet import Fleet
from scaler.simulate.latency_grid import Mixture, Shape
from scaler.simulate.served import Served


class Telemetry:
    """`looks_steps`: the steps between two decisions."""

    def __init__(self, step_s: float, looks_steps: int, delay_s: float) -> None:
        self._step_s = step_s
        self._late_steps = int(delay_s / step_s)
        self._late_share = delay_s / step_s - self._late_steps
        self._steps: deque[Served] = deque(maxlen=self._late_steps + looks_steps + 1)

    def hear(self, served: Served) -> None:
        self._steps.appendleft(served)

    def forget(self) -> None:
        """After a time without data: what was before it says nothing of now."""
        self._steps.clear()

    def seen(self, now_s: float, fleet: Fleet, steps: int) -> Seen:
        """The last `steps` before the delay; of each, a part of two when the delay is no whole number."""
        weighted = self._weighted(steps)
        span_s = self._step_s * sum(weight for _, weight in weighted)
        if span_s <= 0:
            return unseen(now_s, fleet)
        whole = Served()
        pieces: list[tuple[Shape, float]] = []
        for served, weight in weighted:
            whole.add(served, weight)
            pieces += [(shape, requests * weight) for shape, requests in served.latencies]
        drawn_j = whole.busy_j + max(0.0, whole.idle_j)
        newest = weighted[0][0]
        return Seen(
            now_s=now_s,
            span_s=span_s,
            ready=fleet.ready,
            starting=fleet.starting,
            draining=fleet.draining(now_s),
            arrivals_rps=whole.arrivals / span_s,
            completions_rps=whole.answered / span_s,
            rates_1s=self._rates(steps),
            refused_rps=whole.refused / span_s,
            busy_fraction=min(1.0, whole.busy_s / whole.ready_s) if whole.ready_s > 0 else 0.0,
            in_flight=whole.in_flight_s / span_s,
            queue_depth=newest.waiting,
            batch_mean=whole.computed / whole.batches if whole.batches > 0 else 0.0,
            compute_s_per_batch=whole.busy_s / whole.batches if whole.batches > 0 else 0.0,
            batches=whole.batches,
            latency_quantile_s=lambda percentile: _quantile_s(pieces, percentile),
            over_slo=whole.over / whole.answered if whole.answered > 0 else 0.0,
            watts=(drawn_j + whole.startup_j) / span_s,
            data=True,
            variant=fleet.variant,
        )

    def _weighted(self, steps: int) -> list[tuple[Served, float]]:
        """Newest first. A window that begins inside a step takes the rest of it, and a part of one more."""
        late, share = self._late_steps, self._late_share
        parts = [(late, 1 - share), *((late + n, 1.0) for n in range(1, steps)), (late + steps, share)]
        return [(self._steps[n], weight) for n, weight in parts if n < len(self._steps) and weight > 1e-9]

    def _rates(self, steps: int) -> tuple[float, ...]:
        """Arrivals in requests/s of each step of the window, oldest first."""
        late, share, known = self._late_steps, self._late_share, len(self._steps)
        rates = []
        for n in range(late + steps - 1, late - 1, -1):
            if n >= known:
                continue
            older = self._steps[min(n + 1, known - 1)]
            arrivals = (1 - share) * self._steps[n].arrivals + share * older.arrivals
            rates.append(arrivals / self._step_s)
        return tuple(rates)


def _quantile_s(pieces: Sequence[tuple[Shape, float]], percentile: float) -> float:
    mixture = Mixture()
    for shape, requests in pieces:
        mixture.add(shape, requests)
    return mixture.quantile_s(percentile)


def unseen(now_s: float, fleet: Fleet) -> Seen:
    """Telemetry is missing."""
    return Seen(
        now_s=now_s,
        span_s=0.0,
        ready=fleet.ready,
        starting=fleet.starting,
        draining=fleet.draining(now_s),
        arrivals_rps=0.0,
        completions_rps=0.0,
        rates_1s=(),
        refused_rps=0.0,
        busy_fraction=0.0,
        in_flight=0.0,
        queue_depth=0.0,
        batch_mean=0.0,
        compute_s_per_batch=0.0,
        batches=0.0,
        latency_quantile_s=lambda _: 0.0,
        over_slo=0.0,
        watts=0.0,
        data=False,
        variant=fleet.variant,
    )
