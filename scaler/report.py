"""What a replica said, in SI units, with what it did not say spelled out. Values only; `wire` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

# More replicas would not have answered these: of those that were shed they would draw still more watts.
_NOT_OVERLOAD = frozenset({"draining", "invalid", "cancelled", "shed"})


class ReplicaState(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Metered:
    """A meter's words. Reports of one host with the same device read the same joules."""

    source: str
    device: str
    joules_total: float | None
    watts: float | None


@dataclass(frozen=True, slots=True)
class Unmetered:
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """One report. Counters are cumulative from the replica's start; `received_s` is the receiver's clock."""

    replica_id: str
    received_s: float
    state: ReplicaState
    power: Metered | Unmetered
    host: str = ""
    model: str = ""
    model_version: str = ""
    variant: str = ""
    arrivals_total: int = 0  # requests at the door, refused ones too
    completions_total: int = 0
    refusals_total: Mapping[str, int] = field(default_factory=dict)  # by reason
    texts_total: int = 0
    tokens_total: int = 0  # without padding
    padded_tokens_total: int = 0
    batches_total: int = 0
    batched_texts_total: int = 0
    busy_s_total: float = 0.0
    queue_depth: int = 0  # texts
    in_flight: int = 0  # requests
    latency_sketch: bytes = b""  # since the last report; see latency_sketch.py
    start_up_s: float | None = None  # None while starting
    operating_point_version: int = 0
    address: str = ""
    pid: int = 0
    reflex_s_total: float = 0.0  # time in which slack was short
    sm_clock_mhz: int = 0  # that the card is locked to; 0: it is left alone
    sm_clock_refused: str = ""  # why the card is not at the clock it was to have

    @property
    def turned_away_total(self) -> int:
        """Refused because the replica drains: they come again at another door."""
        return self.refusals_total.get("draining", 0)

    @property
    def refused_total(self) -> int:
        """Refused for every other reason."""
        return sum(self.refusals_total.values()) - self.turned_away_total

    @property
    def overload_refusals_total(self) -> int:
        """Refused for want of capacity: more replicas would have answered."""
        return sum(count for reason, count in self.refusals_total.items() if reason not in _NOT_OVERLOAD)
