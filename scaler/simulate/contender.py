"""What an autoscaler under simulation sees and says. Implemented by `minwatt` and by each baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scaler.operating_point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet over the time since the contender's last look, as telemetry shows it: late by its delay.

    Counts of replicas are of now. Without `data` everything else is of no meaning.
    """

    now_s: float
    span_s: float  # that the rates and means are of
    ready: int
    starting: int  # pending ones included
    draining: int
    arrivals_rps: float
    completions_rps: float
    rates_1s: tuple[float, ...]  # arrivals in requests/s of each step of the span, oldest first
    refused_rps: float  # by full queues
    busy_fraction: float  # of ready replicas' time that their GPU computes, 0 to 1
    in_flight: float  # requests in the fleet, waiting or in an engine, mean of the span
    queue_depth: float  # texts that wait, fleet, at its end
    batch_mean: float  # texts; 0 if nothing was computed
    compute_s_per_batch: float  # 0 if nothing was computed
    batches: float
    latency_quantile_s: Callable[[float], float]  # percentile, e.g. 99 -> seconds; 0 if nothing was answered
    over_slo: float  # of what was answered, slower than the SLO: a share
    watts: float  # of the fleet without parked devices, mean of the span
    data: bool  # False: telemetry is missing
    variant: str = ""  # that ready replicas answer with; empty: as started


@dataclass(frozen=True, slots=True)
class Wish:
    """What the fleet shall be from now on."""

    replicas: int
    point: OperatingPoint


class Contender(Protocol):
    """An autoscaler. Called from the start of the simulation on, every `period_s`."""

    @property
    def name(self) -> str: ...

    @property
    def period_s(self) -> float: ...

    def start(self, replicas: int) -> Wish:
        """The fleet it finds, all ready. The wish's replicas may be as many."""
        ...

    def decide(self, seen: Seen) -> Wish: ...
