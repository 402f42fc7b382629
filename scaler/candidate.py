"""A fleet that may be: what it must carry, what is there, what was learnt, and what each size of it costs.

Pure values. `plan` computes with them, `corrections` learns what was measured over predicted, and `control`
hands them from one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaler.latency import Floats
from scaler.operating_point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Corrections:
    """Measured over predicted, learnt while running; 1 where nothing was measured yet."""

    service: float = 1.0  # compute of a batch
    latency: float = 1.0  # tail, after the service time was corrected
    watts: float = 1.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Texts a second of the fleet, and their mean padded length."""

    expected_tps: float
    upper_tps: float
    text_tokens: float


@dataclass(frozen=True, slots=True)
class Present:
    """What is there: replicas that answer, and devices that were ever in use (the parked ones are among
    them)."""

    ready: int = 0
    devices: int = 0


NOTHING_YET = Present()


@dataclass(frozen=True, slots=True)
class Candidate:
    """Replicas at an operating point, and what they are predicted to do."""

    replicas: int
    point: OperatingPoint
    load: float  # of the fullest replica, over its capacity, at the upper rate
    watts: float  # of the fleet, at the expected rate
    holds_slo: bool
    within_budget: bool
    rungs: tuple[str, ...] = ()  # of whenOverBudget that it took to be within the budget


@dataclass(frozen=True, slots=True, eq=False)
class FleetCosts:
    """`watts[n]` of n replicas; infinite where they would miss the SLO or the budget. `best` is the fewest
    replicas that hold the SLO, or as many as help when none does.
    """

    watts: Floats  # [max_replicas + 1]
    best: Candidate

    @property
    def cheapest(self) -> int:
        """Replicas of the fewest watts; the best effort where no number holds the SLO."""
        return int(np.argmin(self.watts)) if np.isfinite(self.watts).any() else self.best.replicas
