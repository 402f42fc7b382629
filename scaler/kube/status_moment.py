"""What the controller knows of a policy at one moment: all that its status is made of. Values only.

Made by `leading` and each policy's loop; read by `status` and `conditions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler.decision import Decision
from scaler.kube.conditions import Obstacle
from scaler.kube.policy_object import Accepted, Problem
from scaler.record import FleetRow


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    """Of the target. `current` is its scale's spec.replicas, the rest counts its pods. `unschedulable` are
    among the `pending`.
    """

    current: int
    ready: int
    starting: int
    pending: int
    unschedulable: int
    terminating: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The Lease that the writer holds."""

    holder: str
    transitions: int


@dataclass(frozen=True, slots=True)
class StatusMoment:
    """All that a status is made of.

    at_s, decided_at_s: unix time. generation: of the newest object. in_force: what the fleet is run by, of an
    earlier generation while `problem` keeps the newest from use (see `policy_object.in_force`). The decision
    and the row are the last ones of the loop that runs `in_force`; None before the first.
    """

    at_s: float
    generation: int
    in_force: Accepted | None
    problem: Problem | None = None
    obstacle: Obstacle | None = None
    replicas: ReplicaCounts | None = None
    decision: Decision | None = None
    decided_at_s: float | None = None
    row: FleetRow | None = None
    fence: Fence | None = None
