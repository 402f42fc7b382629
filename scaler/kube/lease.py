"""Who acts: one controller at a time, elected by a Lease. Pure; `election` runs it.

The rules are client-go's. A candidate takes a lease that nobody holds, or whose holder has not renewed it for
its whole duration by the candidate's own monotonic clock, counted from when it saw the last renewal: clocks
of two machines are never compared. A leader may act until `renew_deadline_s` after it *sent* its last renewal
that succeeded. The others wait for `duration_s` at least from when that renewal arrived, so between the two
there is time for a write that was let through to be answered or given up: that is the fence. Every write of
either side names the version it read, so what comes later still is refused (409). `transitions` grows with
each change of hands; it is in the status that a leader writes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaler.kube.kube_time import micro_time

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """kube-controller-manager's defaults."""

    duration_s: int = 15
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def wait_s(self, rng: random.Random) -> float:
        """To the next try: candidates that were started together drift apart."""
        return self.retry_s * rng.uniform(1.0, 1.2)


@dataclass(frozen=True, slots=True)
class SeenLease:
    """`seen_s`: when the present renewal was first seen, on the watcher's monotonic clock."""

    lease: Object
    seen_s: float

    @property
    def holder(self) -> str:
        return str(_spec(self.lease).get("holderIdentity") or "")

    @property
    def transitions(self) -> int:
        return int(_spec(self.lease).get("leaseTransitions") or 0)

    @property
    def duration_s(self) -> float:
        """The holder's own: one that leaves says a second."""
        return float(_spec(self.lease).get("leaseDurationSeconds") or 0)


def looked(before: SeenLease | None, lease: Object, now_s: float) -> SeenLease:
    """The time stays while nobody has written the lease; its version says so, whatever time was written."""
    if before is not None and _version(before.lease) == _version(lease):
        return SeenLease(lease, before.seen_s)
    return SeenLease(lease, now_s)


def may_take(seen: SeenLease, identity: str, now_s: float) -> bool:
    """Whose it is already may renew it, however late: nobody has taken it in between."""
    return seen.holder in {"", identity} or now_s - seen.seen_s >= seen.duration_s


def first_lease(name: str, identity: str, rules: LeaseRules, unix_s: float, transitions: int = 0) -> Object:
    now = micro_time(unix_s)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": rules.duration_s,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        },
    }


def held_lease(seen: SeenLease, identity: str, rules: LeaseRules, unix_s: float) -> Object:
    """Renewed, or taken over; with the version that was seen, so that of two who try one succeeds."""
    now = micro_time(unix_s)
    mine = seen.holder == identity
    spec = {
        **_spec(seen.lease),
        "holderIdentity": identity,
        "leaseDurationSeconds": rules.duration_s,
        "renewTime": now,
        "acquireTime": _spec(seen.lease).get("acquireTime") if mine else now,
        "leaseTransitions": seen.transitions + (not mine),
    }
    return {**seen.lease, "spec": spec}


def released_lease(seen: SeenLease, unix_s: float) -> Object:
    """Nobody's: the next candidate need not wait for it to run out."""
    spec = {name: value for name, value in _spec(seen.lease).items() if name != "holderIdentity"}
    return {**seen.lease, "spec": {**spec, "leaseDurationSeconds": 1, "renewTime": micro_time(unix_s)}}


def _spec(lease: Object) -> Object:
    return lease.get("spec") or {}


def _version(lease: Object) -> str:
    return str((lease.get("metadata") or {}).get("resourceVersion") or "")
