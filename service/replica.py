"""What this replica is and does now: identity, state, operating point.

Moved by `server` (state) and `fleet` (operating point); read by `inference`, `metrics` and the reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from minwatt.v1.fleet_pb2 import REPLICA_STATE_STARTING, OperatingPoint, ReplicaState
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


class Replica:
    """The present of one server process."""

    def __init__(self, identity: Identity, dispatcher: Dispatcher, most_texts: int = MOST_TEXTS) -> None:
        """`most_texts`: a batch that the engine takes."""
        self.identity = identity
        self.state: ReplicaState.ValueType = REPLICA_STATE_STARTING
        self.address = ""
        self.start_up_s = 0.0  # from process start to ready; 0 while starting
        self.operating_point_version = 0
        self.shed_low_priority = False
        self.dispatcher = dispatcher
        self._most_texts = most_texts

    def operate_at(self, point: OperatingPoint) -> str | None:
        """Moves all but the variant; a zero bound or SLO stays. Returns why, if it can't be followed."""
        if point.version < self.operating_point_version:
            return f"operating point {point.version}: {self.operating_point_version} is in force and newer"
        times_s = (point.max_delay_seconds, point.slo_latency_seconds)
        if not all(0 <= time_s < math.inf for time_s in times_s):
            return (
                f"operating point {point.version}: delay and SLO = {times_s}: must be finite and not negative"
            )
        if point.max_batch_texts > self._most_texts or point.max_batch_tokens > MOST_PADDED_TOKENS:
            asked = f"{point.max_batch_texts} texts, {point.max_batch_tokens} tokens a batch"
            return (
                f"operating point {point.version}: {asked}: allowed: {self._most_texts}, {MOST_PADDED_TOKENS}"
            )
        if max(point.sm_clock_mhz, point.reflex_sm_clock_mhz) > MOST_CLOCK_MHZ:
            asked_mhz = f"{point.sm_clock_mhz} and {point.reflex_sm_clock_mhz} MHz"
            return f"operating point {point.version}: clocks of {asked_mhz}: allowed: {MOST_CLOCK_MHZ}"
        if point.variant not in {"", self.identity.variant}:
            serves = self.identity.variant
            return (
                f"operating point {point.version}: variant {point.variant!r}: this replica serves {serves!r}"
            )
        limits = self.dispatcher.limits
        self.dispatcher.limits = BatchLimits(
            point.max_batch_texts or limits.max_texts,
            point.max_batch_tokens or limits.max_padded_tokens,
            point.max_delay_seconds,
        )
        self.dispatcher.slo_s = point.slo_latency_seconds or self.dispatcher.slo_s
        self.dispatcher.clocks = Clocks(point.sm_clock_mhz, point.reflex_sm_clock_mhz)
        self.shed_low_priority = point.shed_low_priority
        self.operating_point_version = point.version
        return None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where reports and scrapes read the present."""

    replica: Replica
    counters: Counters
    power: PowerBook
    card_clock: CardClock
