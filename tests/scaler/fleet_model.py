"""A fleet in a few lines, stepped by hand: what the control functions see of replicas, without any replica.

Each second every ready replica answers its share of the arrivals, and reports the queue model's latency.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from scaler.bus import FleetView
from scaler.control import (
    ControlState,
    Settings,
    decide,
    first_point,
    observe_fleet,
    start_beside,
    start_fresh,
)
from scaler.decision import Decision
from scaler.latency import BatchServer, steady_state
from scaler.latency_sketch import encode
from scaler.policy import Policy
from scaler.profile import (
    MeterNote,
    Point,
    PowerLine,
    Profile,
    RateAtSlo,
    ReplicaSetup,
    ServiceTime,
    StartUp,
)
from scaler.report import Metered, ReplicaState, Report

TEXT_TOKENS = 16.0


def profile(**changes: object) -> Profile:
    """About 190 texts a second of 16 tokens for one replica with batches of 8."""
    point = Point(
        max_batch_texts=8,
        max_delay_s=0.0,
        text_tokens=TEXT_TOKENS,
        offered_rps=50,
        completed_rps=50,
        p50_s=0.01,
        p99_s=0.02,
        batch_mean_texts=2,
        compute_s_per_batch=0.012,
        watts=2.0,
        duration_s=10,
    )
    made = Profile(
        model="tiny",
        model_version="1",
        variant="int8",
        device="made up",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        meter=MeterNote(source="modelled"),
        replica=ReplicaSetup(engine_threads=1),
        service_time=ServiceTime(alpha_s=0.002, beta_s_per_token=0.005 / TEXT_TOKENS, residual_fraction=0.05),
        power=PowerLine(idle_w=0.74, busy_w=3.5, residual_fraction=0.05),
        start_up=StartUp(seconds=2, joules=5),
        max_rps_at_slo=RateAtSlo(latency_s=0.1, rps=150),
        points=(point,),
    )
    return made.model_copy(update=changes)


def policy(**spec: object) -> Policy:
    """Fields of `spec` as the file writes them."""
    base: dict[str, object] = {
        "model": "tiny",
        "slo": {"latency": "100ms"},
        "replicas": {"min": 1, "max": 6},
        "batching": {"maxSize": 8, "maxDelay": "10ms"},
        "behavior": {"tick": "1s"},
    }
    document = {"apiVersion": "minwatt.dev/v1alpha1", "kind": "PowerPolicy", "metadata": {"name": "tiny"}}
    return Policy.model_validate({**document, "spec": {**base, **spec}})


@dataclass
class ModelReplica:
    name: str
    ready_at_s: float
    arrivals: int = 0
    queue: float = 0.0
    joules: float = 0.0
    busy_s: float = 0.0
    batches: float = 0.0


@dataclass
class FleetModel:
    """`silent`: nothing is reported. Watts and service time are the profile's own, times `slower`."""

    settings: Settings
    rng: np.random.Generator
    now_s: float = 0.0
    replicas: list[ModelReplica] = field(default_factory=list)
    silent: bool = False
    slower: float = 1.0
    watts_factor: float = 1.0
    started: int = 0
    tails_s: list[float] = field(default_factory=list)

    def scale_to(self, count: int) -> None:
        while len(self.replicas) < count:
            self.started += 1
            ready_at_s = self.now_s + self.settings.profile.start_up.seconds
            self.replicas.append(ModelReplica(f"r{self.started}", ready_at_s))
        del self.replicas[count:]

    def second(self, rate_rps: float) -> FleetView:
        """One second passes."""
        self.now_s += 1.0
        arrivals = int(self.rng.poisson(rate_rps))
        ready = [replica for replica in self.replicas if replica.ready_at_s <= self.now_s]
        reports = tuple(
            self._report(replica, arrivals / len(ready) if ready else 0.0) for replica in self.replicas
        )
        return FleetView(frozenset(one.name for one in self.replicas), () if self.silent else reports)

    def _report(self, replica: ModelReplica, share: float) -> Report:
        if replica.ready_at_s > self.now_s:
            power = self.settings.profile.power
            replica.joules += power.busy_w
            return Report(
                replica.name, self.now_s, ReplicaState.STARTING, self._power(replica, power.busy_w), "host"
            )
        line = self.settings.profile.service_time
        server = BatchServer(
            line.alpha_s * self.slower, line.beta_s_per_token * TEXT_TOKENS * self.slower, 8, 0.0
        )
        replica.queue = max(0.0, replica.queue + share - server.capacity_tps)
        steady = steady_state(server, min(share, 0.99 * server.capacity_tps), 99)
        tail_s = steady.tail_s + replica.queue / server.capacity_tps
        self.tails_s.append(tail_s)
        replica.arrivals += round(share)
        power = self.settings.profile.power
        watts = self.watts_factor * (power.idle_w + (power.busy_w - power.idle_w) * steady.busy_fraction)
        replica.joules += watts
        replica.busy_s += steady.busy_fraction
        replica.batches += share / steady.batch_mean_texts
        count = round(share)
        return Report(
            replica.name,
            self.now_s,
            ReplicaState.READY,
            self._power(replica, watts),
            "host",
            arrivals_total=replica.arrivals,
            completions_total=replica.arrivals,
            texts_total=replica.arrivals,
            tokens_total=int(replica.arrivals * TEXT_TOKENS),
            padded_tokens_total=int(replica.arrivals * TEXT_TOKENS),
            batches_total=round(replica.batches),
            busy_s_total=replica.busy_s,
            batched_texts_total=replica.arrivals,
            queue_depth=int(replica.queue),
            latency_sketch=encode([tail_s / 3] * int(0.985 * count) + [tail_s] * math.ceil(0.015 * count)),
            start_up_s=self.settings.profile.start_up.seconds,
        )

    def _power(self, replica: ModelReplica, watts: float) -> Metered:
        known = None if math.isnan(watts) else watts
        return Metered("modelled", f"process:{replica.name}", replica.joules, known)


@dataclass
class Run:
    """The control functions beside a fleet model. `decisions` are all of them, one a tick."""

    fleet: FleetModel
    state: ControlState
    decisions: list[Decision] = field(default_factory=list)

    @property
    def replicas(self) -> list[int]:
        return [decision.desired_replicas for decision in self.decisions]

    def seconds(self, count: int, rate_rps: Callable[[float], float] | float) -> Run:
        settings = self.fleet.settings
        for _ in range(count):
            rate = rate_rps(self.fleet.now_s) if callable(rate_rps) else rate_rps
            view = self.fleet.second(rate)
            self.state, seen = observe_fleet(self.state, view, self.fleet.now_s, settings)
            current = len(self.fleet.replicas)
            self.state, decision = decide(self.state, seen, current, settings)
            self.decisions.append(decision)
            self.fleet.scale_to(decision.desired_replicas)
        return self


def new_run(settings: Settings, *, seed: int = 0, found_running: int = 0) -> Run:
    """A fleet from nothing, or one that a new scaler finds running and ready."""
    fleet = FleetModel(settings, np.random.default_rng(seed))
    fleet.now_s = -settings.profile.start_up.seconds
    fleet.scale_to(found_running)
    fleet.now_s = 0.0
    return Run(fleet, start_beside(0.0) if found_running else start_fresh(0.0, first_point(settings)))
