"""Small worlds: a card like a published A100 with assumed watts, and a contender that does as it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from scaler.operating_point import OperatingPoint
from scaler.policy import Policy
from scaler.profile import (
    ClockSet,
    ClockStep,
    MeterNote,
    Power,
    Profile,
    RateAtSlo,
    ReplicaSetup,
    ServiceTime,
    StartUp,
    Variant,
)
from scaler.simulate.contender import Seen, Wish
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World

FULL_MHZ, SLOW_MHZ = 1410, 940


def profile(alpha_s: float = 0.00051, beta_s: float = 0.0000568, start_up_s: float = 20.0) -> Profile:
    return Profile(
        model="m",
        model_version="1",
        device="a card",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        meter=MeterNote(source="assumed"),
        replica=ReplicaSetup(engine_threads=1, max_batch_tokens=16_384),
        text_tokens=128,
        variants=(
            Variant(
                name="int8",
                service_time=ServiceTime(
                    basis="published", alpha_s=alpha_s, beta_s_per_token=beta_s / 128, residual_fraction=None
                ),
                power=Power(
                    basis="assumed", idle_w=55, batch_w=81, token_w=331, residual_fraction=None, parked_w=45
                ),
                max_rps_at_slo=RateAtSlo(latency_s=0.05, rps=None),
            ),
        ),
        clock_sets=(
            ClockSet(
                name="A",
                basis="assumed",
                steps=(
                    ClockStep(sm_clock_mhz=FULL_MHZ, time_factor=1, power_factor=1),
                    ClockStep(sm_clock_mhz=SLOW_MHZ, time_factor=1.5, power_factor=0.52),
                ),
            ),
        ),
        start_up=StartUp(basis="assumed", seconds=start_up_s, joules=90 * start_up_s),
    )


def policy(max_replicas: int = 20) -> Policy:
    return Policy.model_validate(
        {
            "apiVersion": "minwatt.dev/v1alpha1",
            "kind": "PowerPolicy",
            "metadata": {"name": "test"},
            "spec": {
                "model": "m",
                "slo": {"latency": "50ms", "errorBudget": "0.1%"},
                "replicas": {"min": 1, "max": max_replicas},
                "batching": {"maxSize": 64, "maxDelay": "20ms"},
                "gpu": {"clocks": "auto"},
            },
        }
    )


def world(rates_rps: Sequence[float], bin_s: float = 20.0, **changes: object) -> World:
    """Each rate for one bin; NaN: no data."""
    traffic = Traffic(bin_s, np.array(rates_rps, dtype=np.float64) * bin_s)
    given: dict[str, object] = {"profile": profile(), "policy": policy(), "traffic": traffic}
    return World(**(given | changes))  # type: ignore[arg-type]


def point(delay_s: float = 0.0, *, texts: int = 64, slow: bool = False) -> OperatingPoint:
    """`slow`: at the slow clock, with the reflex to the full one."""
    return OperatingPoint(
        version=1,
        max_batch_texts=texts,
        max_batch_tokens=16_384,
        max_delay_s=delay_s,
        slo_latency_s=0.05,
        sm_clock_mhz=SLOW_MHZ if slow else 0,
        reflex_sm_clock_mhz=FULL_MHZ if slow else 0,
    )


@dataclass
class Scripted:
    """As many replicas as `script` says from each time on; what it saw is kept."""

    at: OperatingPoint = field(default_factory=point)
    script: Sequence[tuple[float, int]] = ()
    period_s: float = 5.0
    name: str = "scripted"
    seen: list[Seen] = field(default_factory=list)
    _replicas: int = 0

    def start(self, replicas: int) -> Wish:
        self._replicas = replicas
        return Wish(replicas, self.at)

    def decide(self, seen: Seen) -> Wish:
        self.seen.append(seen)
        wanted = [count for from_s, count in self.script if from_s <= seen.now_s]
        self._replicas = wanted[-1] if wanted else self._replicas
        return Wish(self._replicas, self.at)


NO_DATA = math.nan
