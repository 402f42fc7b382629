"""What a simulated fleet lives in: its device, its policy, its traffic, and everything that may go wrong.

A value. The same world with the same seed offers every contender the same arrivals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.engine import Engine
from scaler.policy import Policy
from scaler.profile import ClockStep, Profile
from scaler.simulate.traffic import Traffic

MAX_QUEUE_TEXTS = 1024  # of one replica; the server's default: more are refused, be the SLO as long as it may


@dataclass(frozen=True, slots=True)
class World:
    """Replicas are identical; a request is one text of the profile's mean length and goes to a ready replica
    at random.
    """

    profile: Profile
    policy: Policy
    traffic: Traffic
    arrival_cv: float = 1.0  # std/mean of the times between arrivals in a bin: 1 Poisson, 2 bursty
    clock_set: str = ""  # empty: the profile's default; used only where the policy's gpu.clocks is auto
    parked_w: float | None = None  # of the device of a removed replica; None: the profile's
    telemetry_delay_s: float = 1.0
    telemetry_loss: float = 0.0  # of the looks at the fleet, those that show nothing
    crash_mtbf_s: float = math.inf  # mean time between crashes of one ready replica
    service_noise: float = 0.05  # std/mean of a batch's time
    clock_delay_s: float = 0.05  # from asking for a clock to having it
    pending_s: float = 0.0  # a pod waits for a node before its replica starts, drawing nothing
    seed: int = 0

    @property
    def slo_latency_s(self) -> float:
        return self.policy.spec.slo.latency_s

    @property
    def first_variant(self) -> str:
        """What replicas answer with where none is named: the profile's first that the policy allows."""
        asked = self.policy.spec.variants
        allowed = self.profile.allowed_variants(asked.allow, asked.min_accuracy)
        return (allowed[0] if allowed else self.profile.variant()).name

    @property
    def clock_steps(self) -> tuple[ClockStep, ...]:
        """Fastest first; empty where the clock stays as it is."""
        return self.profile.clock_steps(self.clock_set) if self.policy.spec.gpu.clocks == "auto" else ()

    def engine(self, sm_clock_mhz: int = 0, variant: str = "") -> Engine:
        """of a replica at that clock; 0: full. Of the first variant unless named. Raises ValueError for a
        clock that is not in the set.
        """
        variant = variant or self.first_variant
        steps = {step.sm_clock_mhz: step for step in self.profile.clock_steps(self.clock_set)}
        if sm_clock_mhz and sm_clock_mhz not in steps:
            allowed = ", ".join(map(str, steps)) or "none"
            raise ValueError(f"sm_clock_mhz = {sm_clock_mhz}: not in the profile's clock set ({allowed})")
        clock = steps[sm_clock_mhz] if sm_clock_mhz else None
        return self.profile.engine(self.profile.text_tokens, variant, clock)

    @property
    def parked_watts(self) -> float:
        own_w = self.profile.variant().power.parked_w
        return own_w if self.parked_w is None else self.parked_w

    @property
    def start_up_w(self) -> float:
        return self.profile.start_up.joules / self.profile.start_up.seconds
