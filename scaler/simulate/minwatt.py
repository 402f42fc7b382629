"""minwatt itself among the contenders: the live loop's own `control.rule`, on what the simulation shows.

Owns the translation of `Seen` into the `Signals` that replicas' reports would have given, and nothing else:
no decision is made here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from scaler.control import first_point, rule
from scaler.control_state import ControlState, expecting, start_fresh
from scaler.latency_sketch import Latencies
from scaler.levers import PlanRules
from scaler.operating_point import OperatingPoint
from scaler.profile import Profile
from scaler.settings import Settings
from scaler.signals import FleetPower, Missing, Signals
from scaler.simulate.contender import Seen, Wish
from scaler.simulate.world import World

_PLAN_RULES = PlanRules()


@dataclass(frozen=True, slots=True)
class _Quantiles:
    """What `control` asks of the latencies that replicas reported."""

    count: float
    of: Seen

    def quantile_s(self, percentile: float) -> float:
        return self.of.latency_quantile_s(percentile)

    def share_over(self, latency_s: float) -> float:
        """Of the SLO's latency, the only one that is asked for."""
        return self.of.over_slo if latency_s > 0 else 1.0


class Minwatt:
    """Implements `contender.Contender`. Decides once a tick of the policy."""

    name = "minwatt"

    def __init__(self, world: World, plan_rules: PlanRules = _PLAN_RULES) -> None:
        self.settings = Settings(world.policy, _as_parked(world), plan_rules, world.clock_set)
        self.period_s = self.settings.tick_s
        self._state: ControlState | None = None
        self._wish: Wish | None = None

    def start(self, replicas: int) -> Wish:
        point = first_point(self.settings)
        self._state = expecting(start_fresh(0.0, point), 0.0, expected=True)
        self._wish = Wish(replicas, point)
        return self._wish

    def decide(self, seen: Seen) -> Wish:
        """Raises RuntimeError before `start`."""
        if self._state is None or self._wish is None:
            raise RuntimeError("decide before start")
        point = self._wish.point
        state = replace(self._state, beats_rps=seen.rates_1s)
        heard = self._signals(seen, point) if seen.data else _missing(seen)
        self._state, ruling = rule(state, heard, seen.ready + seen.starting, self.settings)
        self._wish = Wish(ruling.desired_replicas, ruling.operating_point or point)
        return self._wish

    def _signals(self, seen: Seen, point: OperatingPoint) -> Signals:
        profile = self.settings.profile
        batches = seen.batches > 0
        answered = seen.completions_rps * seen.span_s
        # An engine's own count of its compute leaves the handing over out.
        compute_s = seen.compute_s_per_batch * profile.variant(seen.variant).service_time.saturation
        latencies = cast(Latencies, _Quantiles(answered, seen)) if answered > 0 else None
        return Signals(
            at_s=seen.now_s,
            ready=seen.ready,
            starting=seen.starting,
            draining=seen.draining,
            arrivals_rps=seen.arrivals_rps,
            completions_rps=seen.completions_rps,
            refusals_rps=seen.refused_rps,
            overload_refusals_rps=seen.refused_rps,
            queue_depth=round(seen.queue_depth),
            in_flight={},
            power=FleetPower(seen.watts, "profile"),
            latencies=latencies,
            recent_latencies=latencies,
            texts_per_request=1.0,
            text_tokens=profile.text_tokens,
            batch_mean_texts=seen.batch_mean if batches else None,
            batch_tokens=seen.batch_mean * profile.text_tokens if batches else None,
            compute_s_per_batch=compute_s if batches else None,
            batches=seen.batches,
            padding_fraction=0.0,
            start_up_s=profile.start_up.seconds,
            highest_point_version=point.version,
            last_rps=seen.rates_1s[-1] if seen.rates_1s else seen.arrivals_rps,
            variants={seen.variant: seen.ready} if seen.variant and seen.ready else {},
            beats_rps=seen.rates_1s,
        )


def _as_parked(world: World) -> Profile:
    """The profile with the world's parked watts: what the fleet draws is what it is planned with."""
    variants = tuple(
        one.model_copy(update={"power": one.power.model_copy(update={"parked_w": world.parked_watts})})
        for one in world.profile.variants
    )
    return world.profile.model_copy(update={"variants": variants})


def _missing(seen: Seen) -> Missing:
    return Missing(
        at_s=seen.now_s,
        reason="telemetry is lost",
        ready=seen.ready,
        starting=seen.starting,
        draining=seen.draining,
    )
