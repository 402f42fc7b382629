"""What this replica is and does now: identity, state, operating point.

Moved by `server` (state), `fleet` (operating point) and `lifecycle` (models); read by `inference`, `metrics`
and the reports. The operating point's bounds hold for every resident model; its variant is that of the
default one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from minwatt.v1.fleet_pb2 import REPLICA_STATE_STARTING, OperatingPoint, ReplicaState
from minwatt.v1.model_dir import ModelDirectory
from service.clocks import CardClock
from service.counters import Counters
from service.dispatch import Clocks, Dispatcher
from service.power import PowerBook
from service.queue import MOST_PADDED_TOKENS, MOST_TEXTS, BatchLimits

MOST_CLOCK_MHZ = 100_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports; `replica_id` is unique for each start."""

    replica_id: str
    model: str
    model_version: str
    variant: str
    host: str
    pid: int


class Resident(Protocol):
    """What a replica asks of a model that it serves."""

    @property
    def name(self) -> str: ...
    @property
    def directory(self) -> ModelDirectory: ...
    @property
    def variant(self) -> str: ...
    @property
    def dispatcher(self) -> Dispatcher: ...


class Residents(Protocol):
    """The models that are served now."""

    @property
    def default(self) -> Resident: ...
    @property
    def by_name(self) -> Mapping[str, Resident]: ...


class Replica:
    """The present of one server process. `serve` is called before anything else is asked of it."""

    def __init__(
        self, started_as: Identity, limits: BatchLimits, slo_s: float, most_texts: int = MOST_TEXTS
    ) -> None:
        """`most_texts`: a batch that the engines take."""
        self._started_as = started_as
        self._most_texts = most_texts
        self.state: ReplicaState.ValueType = REPLICA_STATE_STARTING
        self.address = ""
        self.start_up_s = 0.0  # from process start to ready; 0 while starting
        self.shed_low_priority = False
        self.limits = limits  # these four are the operating point's
        self.slo_s = slo_s
        self.clocks = Clocks()
        self.reflex_backlog_s = 0.0
        self.operating_point_version = 0  # in force, its variant too
        self.own_variant = ""  # of the default model, where the operating point names none
        self.wanted_variant = ""
        self._followed_version = 0  # its bounds are in force, its variant may not be yet
        self._retired_reflex_s = 0.0

    def serve(self, models: Residents) -> None:
        self.models = models
        self.own_variant = self.wanted_variant = models.default.variant

    @property
    def identity(self) -> Identity:
        """With the default model as it is now."""
        default = self.models.default
        version = default.directory.spec.version
        return replace(self._started_as, model_version=version, variant=default.variant)

    @property
    def default(self) -> Resident:
        """The model of requests that name none; the one that the fleet plans with."""
        return self.models.default

    @property
    def dispatcher(self) -> Dispatcher:
        """The default model's."""
        return self.models.default.dispatcher

    @property
    def waiting_texts(self) -> int:
        return sum(model.dispatcher.waiting_texts for model in self.models.by_name.values())

    @property
    def waiting_batch_class_texts(self) -> int:
        return sum(model.dispatcher.waiting_batch_class_texts for model in self.models.by_name.values())

    @property
    def raised(self) -> bool:
        """Whether slack is short."""
        return any(model.dispatcher.raised for model in self.models.by_name.values())

    @property
    def reflex_s_total(self) -> float:
        """Model-seconds in which slack was short; never less than it was."""
        resident = self.models.by_name.values()
        return self._retired_reflex_s + sum(model.dispatcher.reflex_s_total for model in resident)

    def retired(self, model: Resident) -> None:
        """Call as another one takes its place."""
        self._retired_reflex_s += model.dispatcher.reflex_s_total

    def apply_to(self, dispatcher: Dispatcher) -> None:
        """A model's queue goes by the operating point in force."""
        dispatcher.limits, dispatcher.slo_s, dispatcher.clocks = self.limits, self.slo_s, self.clocks
        dispatcher.raise_above(self.reflex_backlog_s)

    def operate_at(self, point: OperatingPoint) -> str | None:
        """Moves all but the variant, which is then wanted; a zero bound or SLO stays.

        Returns why, if it can't be followed: then nothing is moved.
        """
        if point.version < self._followed_version:
            return f"operating point {point.version}: {self._followed_version} is in force and newer"
        times_s = (point.max_delay_seconds, point.slo_latency_seconds, point.reflex_backlog_seconds)
        if not all(0 <= time_s < math.inf for time_s in times_s):
            asked = f"delay, SLO and reflex' backlog = {times_s}"
            return f"operating point {point.version}: {asked}: must be finite and not negative"
        if point.max_batch_texts > self._most_texts or point.max_batch_tokens > MOST_PADDED_TOKENS:
            asked = f"{point.max_batch_texts} texts, {point.max_batch_tokens} tokens a batch"
            return (
                f"operating point {point.version}: {asked}: allowed: {self._most_texts}, {MOST_PADDED_TOKENS}"
            )
        if max(point.sm_clock_mhz, point.reflex_sm_clock_mhz) > MOST_CLOCK_MHZ:
            asked_mhz = f"{point.sm_clock_mhz} and {point.reflex_sm_clock_mhz} MHz"
            return f"operating point {point.version}: clocks of {asked_mhz}: allowed: {MOST_CLOCK_MHZ}"
        variant = point.variant or self.own_variant
        if variant != self.default.variant:
            there = self.default.directory.present_variants()
            if variant not in there:
                listed = ", ".join(there)
                return f"operating point {point.version}: variant {variant!r}: this replica has {listed}"
        self.limits = BatchLimits(
            point.max_batch_texts or self.limits.max_texts,
            point.max_batch_tokens or self.limits.max_padded_tokens,
            point.max_delay_seconds,
        )
        self.slo_s = point.slo_latency_seconds or self.slo_s
        self.clocks = Clocks(point.sm_clock_mhz, point.reflex_sm_clock_mhz)
        self.reflex_backlog_s = point.reflex_backlog_seconds
        for model in self.models.by_name.values():
            self.apply_to(model.dispatcher)
        self.shed_low_priority = point.shed_low_priority
        self._followed_version = point.version
        self.wanted_variant = variant
        self.settle()
        return None

    def settle(self) -> None:
        """The operating point is in force once its variant is."""
        if self.default.variant == self.wanted_variant:
            self.operating_point_version = self._followed_version


@dataclass(frozen=True, slots=True)
class Sources:
    """Where reports and scrapes read the present."""

    replica: Replica
    counters: Counters
    power: PowerBook
    card_clock: CardClock
