"""The fewest watts that hold the SLO: replicas × max batch × max delay over one profile.

Pure. Owns the candidates, what each is predicted to do, and which is best. Called by `control` once a tick.

For one operating point, latency falls and watts rise with replicas; so the fewest replicas that hold the
SLO are its best candidate, found by bisection, and the best of those over all operating points is the plan.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scaler.latency import BatchServer, steady_state
from scaler.operating_point import OperatingPoint
from scaler.profile import Profile


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Margins of the plan, each with its reason."""

    slo_share: float = 0.9  # of the SLO that a predicted tail may take: the fit's own residual is near 10%
    # Load over capacity of the fullest replica. Above it small errors of the rate are large ones of the tail.
    max_load: float = 0.85
    # The fullest replica's arrivals over the mean. A connection stays with the replica that accepted it
    # until it is opened anew, so that replicas that share one port are never loaded evenly.
    imbalance: float = 1.25
    no_worse: float = (
        1.05  # a tail this close to that of all replicas allowed is as good, out of the SLO's reach
    )
    harm_within: float = 1.5  # out of the SLO's reach, tails this close are told apart by capacity alone
    # Points this close to the fewest watts are as good: the present one stays, or the one with most to spare.
    keep_within: float = 0.02


@dataclass(frozen=True, slots=True)
class Corrections:
    """Measured over predicted, learnt while running; 1 where nothing was measured yet."""

    service: float = 1.0  # compute of a batch
    latency: float = 1.0  # tail, after the service time was corrected
    watts: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    texts_per_s: float
    text_tokens: float  # padded tokens a text


@dataclass(frozen=True, slots=True)
class Limits:
    """What the policy allows."""

    min_replicas: int
    max_replicas: int
    slo_latency_s: float
    percentile: float
    budget_w: float | None
    max_batch_texts: int
    max_delay_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """Replicas at an operating point, and what they are predicted to do."""

    replicas: int
    point: OperatingPoint  # of version 0: a plan does not number
    tail_s: float  # at the policy's percentile; infinite when overloaded
    load: float  # of the fullest replica, over its capacity
    watts: float  # of the fleet
    holds_slo: bool
    within_budget: bool


@dataclass(frozen=True, slots=True)
class Planner:
    """One profile under one policy's limits, with what was learnt."""

    profile: Profile
    limits: Limits
    rules: PlanRules = PlanRules()
    corrections: Corrections = Corrections()

    def best(self, demand: Demand, current: OperatingPoint | None = None) -> Candidate:
        """Replicas and operating point; never over the budget when a candidate within it exists."""
        return self._choose([self._best_at_point(point, demand) for point in self._points()], current)

    def at(self, replicas: int, demand: Demand, current: OperatingPoint | None = None) -> Candidate:
        """The best operating point for that many replicas."""
        return self._choose([self.predict(replicas, point, demand) for point in self._points()], current)

    def predict(self, replicas: int, point: OperatingPoint, demand: Demand) -> Candidate:
        """What that many replicas at that point will do; the corrections are in it."""
        limits, rules = self.limits, self.rules
        fits = max(1, min(point.max_batch_texts, int(point.max_batch_tokens / demand.text_tokens)))
        line = self.profile.service_time
        slower = self.corrections.service / line.saturation
        beta_s_per_text = slower * line.beta_s_per_token * demand.text_tokens
        server = BatchServer(slower * line.alpha_s, beta_s_per_text, fits, point.max_delay_s)
        mean_tps = demand.texts_per_s / replicas
        mean = steady_state(server, mean_tps, limits.percentile)
        uneven = replicas > 1
        fullest = steady_state(server, mean_tps * rules.imbalance, limits.percentile) if uneven else mean
        power = self.profile.power
        computing = mean.busy_fraction * line.saturation
        running_w = replicas * (power.idle_w + (power.busy_w - power.idle_w) * computing)
        parked_w = max(0, limits.max_replicas - replicas) * power.parked_w
        watts = (running_w + parked_w) * self.corrections.watts
        tail_s = fullest.tail_s * self.corrections.latency
        return Candidate(
            replicas=replicas,
            point=point,
            tail_s=tail_s,
            load=fullest.load,
            watts=watts,
            holds_slo=tail_s <= rules.slo_share * limits.slo_latency_s and fullest.load <= rules.max_load,
            within_budget=limits.budget_w is None or watts <= limits.budget_w,
        )

    def at_p99(self) -> Planner:
        """The same planner, its tails at p99 whatever the policy's percentile is."""
        return replace(self, limits=replace(self.limits, percentile=99.0))

    def _points(self) -> list[OperatingPoint]:
        limits = self.limits
        sizes = [2**k for k in range(limits.max_batch_texts.bit_length()) if 2**k < limits.max_batch_texts]
        return [
            OperatingPoint(
                version=0,
                max_batch_texts=size,
                max_batch_tokens=self.profile.replica.max_batch_tokens,
                max_delay_s=delay_s,
                slo_latency_s=limits.slo_latency_s,
            )
            for size in [*sizes, limits.max_batch_texts]
            for delay_s in sorted({limits.max_delay_s * share for share in (0.0, 0.25, 0.5, 1.0)})
        ]

    def _best_at_point(self, point: OperatingPoint, demand: Demand) -> Candidate:
        """The fewest replicas that hold the SLO, or else as many as help, or else as the budget lets run."""

        def candidate(replicas: int) -> Candidate:
            return self.predict(replicas, point, demand)

        lowest, highest = self.limits.min_replicas, self.limits.max_replicas
        over_budget = _first(lowest, highest, lambda n: not candidate(n).within_budget)
        most = candidate(highest if over_budget is None else max(lowest, over_budget - 1))
        if not most.within_budget:
            return most
        if most.holds_slo:
            enough = _first(lowest, most.replicas, lambda n: candidate(n).holds_slo)
        else:
            enough = _first(lowest, most.replicas, lambda n: self._no_worse(candidate(n), most))
        return most if enough is None else candidate(enough)

    def _no_worse(self, fewer: Candidate, most: Candidate) -> bool:
        """More replicas than `fewer` would not help: where the SLO is below the compute of one text, say."""
        return fewer.tail_s <= self.rules.no_worse * most.tail_s and fewer.load <= max(
            self.rules.max_load, most.load
        )

    def _choose(self, candidates: Sequence[Candidate], current: OperatingPoint | None) -> Candidate:
        affordable = [candidate for candidate in candidates if candidate.within_budget]
        holding = [candidate for candidate in affordable if candidate.holds_slo]
        if not affordable:
            return min(candidates, key=lambda one: one.watts)
        if not holding:
            least_s = min(one.tail_s for one in affordable)
            close = [one for one in affordable if one.tail_s <= self.rules.harm_within * least_s]
            return min(close, key=lambda one: (one.load, one.tail_s))
        least_w = min(one.watts for one in holding)
        frugal = [one for one in holding if one.watts <= least_w * (1 + self.rules.keep_within)]
        kept = [one for one in frugal if current is not None and _same_setting(one.point, current)]
        return min(kept or frugal, key=lambda one: (one.load, one.tail_s))


def _same_setting(one: OperatingPoint, other: OperatingPoint) -> bool:
    return (one.max_batch_texts, one.max_delay_s) == (other.max_batch_texts, other.max_delay_s)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The least n in [low, high] with holds(n), for a test that stays true once it is."""
    found = low + bisect_left(range(low, high + 1), True, key=holds)
    return found if found <= high else None
