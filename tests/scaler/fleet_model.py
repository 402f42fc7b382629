"""A fleet in a few lines, stepped by hand: what the control functions see of replicas, without any replica.

Each second every request goes to a ready replica at random. A replica draws its engine's watts at the clock
that it was told, or at the reflex' clock where that one is too slow, and reports the queue model's latency.
Its first ready report carries the slow samples of its warm-up too, as a real one's does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from minwatt.v1.reflex import ReflexRule
from scaler.bus import FleetView
from scaler.control import decide, first_point, observe_fleet
from scaler.control_state import ControlState, start_beside, start_fresh
from scaler.decision import Decision
from scaler.engine import Engine
from scaler.latency import BatchServer, mean_batch, tail_s
from scaler.latency_sketch import encode
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report
from scaler.settings import Settings
from tests.scaler.made_up import TEXT_TOKENS

_REFLEX = ReflexRule()
_BUSIEST = 0.95  # of the set clock's capacity: from there on the reflex raises the clock
_MOST_WAITING = 1024  # texts in a replica's queue; more are refused
_WARMING_S = 9.0  # what the requests of a warm-up take


@dataclass
class ModelReplica:
    name: str
    ready_at_s: float
    warming: bool = True
    arrivals: int = 0
    done: float = 0.0
    refused: int = 0
    queue: float = 0.0
    joules: float = 0.0
    busy_s: float = 0.0
    batches: float = 0.0


@lru_cache(maxsize=4096)
def _sketch(samples: int, tail: float, warming: int) -> bytes:
    slow = math.ceil(0.015 * samples)
    return encode([tail / 3] * (samples - slow) + [tail] * slow + [_WARMING_S] * warming)


@dataclass
class Second:
    """What truly was in it."""

    at_s: float
    replicas: int  # ready ones
    tail_s: float  # of the slowest replica; infinite when none is ready
    watts: float  # starting and parked ones too
    refused: int = 0


@dataclass
class FleetModel:
    """`silent`: nothing is reported. Watts and service time are the profile's own, times the factors; the
    tail is the queue model's, times a factor by load.
    """

    settings: Settings
    rng: np.random.Generator
    point: OperatingPoint
    now_s: float = 0.0
    replicas: list[ModelReplica] = field(default_factory=list)
    silent: bool = False
    slower: float = 1.0
    watts_factor: float = 1.0  # NaN: the meter knows no watts
    tail_factor: Callable[[float], float] = lambda load: 1.0
    warm_up_samples: int = 50
    started: int = 0
    devices: int = 0
    history: list[Second] = field(default_factory=list)

    def scale_to(self, count: int) -> None:
        while len(self.replicas) < count:
            self.started += 1
            ready_at_s = self.now_s + self.settings.profile.start_up.seconds
            self.replicas.append(ModelReplica(f"r{self.started}", ready_at_s))
        del self.replicas[count:]
        self.devices = max(self.devices, count)

    def crash(self, count: int) -> None:
        """The oldest are gone; nobody asked them to."""
        del self.replicas[:count]

    def second(self, rate_rps: float) -> FleetView:
        """One second passes."""
        self.now_s += 1.0
        ready = [replica for replica in self.replicas if replica.ready_at_s <= self.now_s]
        starting = [replica for replica in self.replicas if replica.ready_at_s > self.now_s]
        arrivals = int(self.rng.poisson(rate_rps))
        shares = self.rng.multinomial(arrivals, [1 / len(ready)] * len(ready)) if ready else np.zeros(0)
        reports = [
            *self._ready_reports(ready, shares.astype(np.float64), rate_rps),
            *(self._starting_report(replica) for replica in starting),
        ]
        members = frozenset(one.name for one in self.replicas)
        return FleetView.of(members, () if self.silent else tuple(reports))

    def _starting_report(self, replica: ModelReplica) -> Report:
        start_up = self.settings.profile.start_up
        watts = start_up.joules / start_up.seconds
        replica.joules += watts
        self.history[-1].watts += watts
        power = self._power(replica, watts)
        return Report(replica.name, self.now_s, ReplicaState.STARTING, power, "host")

    def _ready_reports(self, ready: list[ModelReplica], shares: np.ndarray, rate_rps: float) -> list[Report]:
        """Tail and batch are those of the steady state, so that what is predicted can come true."""
        parked = self.devices - len(self.replicas)
        watts = parked * self.settings.profile.variant().power.parked_w * self._factor
        self.history.append(Second(self.now_s, len(ready), math.inf, watts))
        if not ready:
            return []
        server = self._server(self.point.sm_clock_mhz, self.point.max_delay_s)
        share_tps, tail = np.array([rate_rps / len(ready)]), math.inf
        waits = max(replica.queue for replica in ready) > self.point.max_batch_texts
        if self.point.reflex_sm_clock_mhz != self.point.sm_clock_mhz:
            raised = self._server(self.point.reflex_sm_clock_mhz, 0.0)
            kept_up = np.minimum(share_tps, 0.99 * raised.capacity_tps)
            short_s = _REFLEX.short_share * self.point.slo_latency_s
            tail = short_s + float(tail_s(raised, kept_up, 0.01)[0])
            if waits or share_tps[0] > _BUSIEST * server.capacity_tps:
                server = raised
        usual = np.minimum(share_tps, 0.99 * server.capacity_tps)
        tail = min(tail, float(tail_s(server, usual, 0.01)[0]))
        tail *= self.tail_factor(float(usual[0] / server.capacity_tps))
        batch = float(mean_batch(server, usual)[0])
        return [
            self._ready_report(replica, float(share), server, batch, tail)
            for replica, share in zip(ready, shares, strict=True)
        ]

    def _ready_report(
        self, replica: ModelReplica, share: float, server: BatchServer, batch: float, tail: float
    ) -> Report:
        engine, second = server.engine, self.history[-1]
        refused = max(0, math.ceil(replica.queue + share - server.capacity_tps) - _MOST_WAITING)
        done = min(replica.queue + share - refused, server.capacity_tps)
        if replica.queue > 0:
            batch = float(self.point.max_batch_texts)
        replica.queue = max(0.0, replica.queue + share - refused - done)
        replica.refused += refused
        tail += replica.queue / server.capacity_tps
        second.tail_s = tail if math.isinf(second.tail_s) else max(tail, second.tail_s)
        second.refused += refused
        watts = self._factor * min(engine.watts(done, batch), engine.watts(engine.capacity_tps(batch), batch))
        second.watts += watts
        replica.joules += watts
        replica.arrivals += round(share)
        replica.done += done
        replica.busy_s += done / batch * engine.service_s(batch)
        replica.batches += done / batch
        warming = self.warm_up_samples if replica.warming else 0
        replica.warming = False
        return Report(
            replica.name,
            self.now_s,
            ReplicaState.READY,
            self._power(replica, watts),
            "host",
            arrivals_total=replica.arrivals,
            completions_total=round(replica.done),
            refusals_total={"queue_full": replica.refused},
            texts_total=round(replica.done),
            tokens_total=round(replica.done * TEXT_TOKENS),
            padded_tokens_total=round(replica.done * TEXT_TOKENS),
            batches_total=round(replica.batches),
            busy_s_total=replica.busy_s,
            batched_texts_total=round(replica.done),
            queue_depth=int(replica.queue),
            latency_sketch=_sketch(round(done), tail, warming),
            start_up_s=self.settings.profile.start_up.seconds,
            operating_point_version=self.point.version,
        )

    def _server(self, sm_clock_mhz: int, max_delay_s: float) -> BatchServer:
        made, clock_set = self.settings.profile, self.settings.clock_set
        steps = {step.sm_clock_mhz: step for step in made.clock_steps(clock_set)}
        clock = steps[sm_clock_mhz] if sm_clock_mhz else None
        engine = made.engine(TEXT_TOKENS, self.point.variant, clock)
        slower = Engine(
            engine.alpha_s * self.slower,
            engine.beta_s_per_text * self.slower,
            engine.idle_w,
            engine.batch_w,
            engine.token_w,
        )
        return BatchServer(slower, self.point.max_batch_texts, max_delay_s)

    @property
    def _factor(self) -> float:
        return 1.0 if math.isnan(self.watts_factor) else self.watts_factor

    def _power(self, replica: ModelReplica, watts: float) -> Metered:
        known = None if math.isnan(self.watts_factor) else watts
        return Metered("modelled", f"process:{replica.name}", replica.joules, known)


@dataclass
class Run:
    """The control functions beside a fleet model. `decisions` are all of them, one a tick."""

    fleet: FleetModel
    state: ControlState
    decisions: list[Decision] = field(default_factory=list)
    next_tick_s: float = 0.0

    @property
    def replicas(self) -> list[int]:
        return [decision.desired_replicas for decision in self.decisions]

    def since(self, at_s: float) -> list[Decision]:
        return [decision for decision in self.decisions if decision.at_s > at_s]

    def seconds(self, count: int, rate_rps: Callable[[float], float] | float) -> Run:
        fleet, settings = self.fleet, self.fleet.settings
        for _ in range(count):
            rate = rate_rps(fleet.now_s) if callable(rate_rps) else rate_rps
            view = fleet.second(rate)
            self.state, seen = observe_fleet(self.state, view, fleet.now_s, settings)
            if fleet.now_s < self.next_tick_s:
                continue
            self.next_tick_s = fleet.now_s + settings.tick_s
            self.state, decision = decide(self.state, seen, len(fleet.replicas), settings)
            self.decisions.append(decision)
            fleet.scale_to(decision.desired_replicas)
            fleet.point = decision.operating_point or fleet.point
        return self

    def restarted(self) -> Run:
        """A new scaler beside the same fleet: it knows what the replicas say, and nothing else."""
        return Run(self.fleet, start_beside(self.fleet.now_s), next_tick_s=self.fleet.now_s)


def new_run(settings: Settings, *, seed: int = 0, found_running: int = 0) -> Run:
    """A fleet from nothing, or one that a new scaler finds running and ready."""
    point = first_point(settings)
    fleet = FleetModel(settings, np.random.default_rng(seed), point)
    fleet.now_s = -settings.profile.start_up.seconds
    fleet.scale_to(found_running)
    fleet.now_s = 0.0
    return Run(fleet, start_beside(0.0) if found_running else start_fresh(0.0, point))
