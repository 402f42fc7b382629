"""PowerPolicy objects, and moments of a controller, that are made up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.kube.conditions import Obstacle
from scaler.kube.policy_object import Accepted, Problem, parse
from scaler.kube.status_moment import Fence, ReplicaCounts, StatusMoment
from scaler.operating_point import OperatingPoint
from scaler.record import FleetRow

AT_S = 1_800_000_000.0


def policy_object(
    *, generation: int = 1, annotations: dict[str, str] | None = None, uid: str = "u1", **spec: Any
) -> dict[str, Any]:
    """As an API server gives it."""
    least = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support-text"},
        "model": "support-text",
        "slo": {"latency": "50ms", "percentile": 99, "errorBudget": "0.1%"},
        "power": {"budget": "1200W"},
        "replicas": {"min": 1, "max": 8},
    }
    return {
        "apiVersion": "minwatt.dev/v1alpha1",
        "kind": "PowerPolicy",
        "metadata": {
            "name": "support-text",
            "namespace": "inference",
            "uid": uid,
            "generation": generation,
            "resourceVersion": "343",
            "creationTimestamp": "2026-11-22T02:08:03Z",
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", **(annotations or {})},
        },
        "spec": {**least, **spec},
        "status": {"observedGeneration": 1},
    }


def accepted(**changes: Any) -> Accepted:
    found = parse(policy_object(**changes))
    assert isinstance(found, Accepted), found
    return found


def problem(**changes: Any) -> Problem:
    found = parse(policy_object(**changes))
    assert isinstance(found, Problem), found
    return found


def reason(code: ReasonCode, message: str = "", **values: float | int | str | None) -> Reason:
    return Reason(code, message or code.value, values)


LOAD = reason(ReasonCode.LOAD, "103.0 rps now, up to 120.5 in 9.0 s", arrivals_rps=103.04, forecast_rps=120.5)
POINT = OperatingPoint(
    version=7, max_batch_texts=16, max_batch_tokens=2048, max_delay_s=0.01, slo_latency_s=0.05, variant="int8"
)


def decision(*reasons: Reason, **changes: Any) -> Decision:
    made = Decision(
        at_s=10.0,
        action=Action.KEEP,
        current_replicas=4,
        desired_replicas=4,
        operating_point=POINT,
        forecast_rps=120.5,
        predicted_p99_s=0.0381,
        predicted_watts=240.4,
        watts_basis="measured",
        reasons=reasons or (LOAD,),
    )
    return replace(made, **changes)


def row(**changes: Any) -> FleetRow:
    made = FleetRow(
        at_s=AT_S,
        replicas_desired=4,
        replicas_ready=3,
        replicas_starting=1,
        replicas_draining=0,
        arrivals_rps=103.04,
        p50_s=0.0123,
        p99_s=0.0312,
        watts=210.44,
        watts_source="nvml",
        joules_total=123_456.7,
    )
    return replace(made, **changes)


COUNTS = ReplicaCounts(current=4, ready=3, starting=1, pending=0, unschedulable=0, terminating=0)


def moment(**changes: Any) -> StatusMoment:
    made = StatusMoment(
        at_s=AT_S,
        generation=1,
        in_force=accepted(),
        replicas=COUNTS,
        decision=decision(),
        decided_at_s=AT_S - 3,
        row=row(),
        fence=Fence("minwatt-controller-7d9f-abcde", 3),
    )
    return replace(made, **changes)


_COUNTS = st.integers(0, 10_000)
_SECONDS = st.one_of(st.none(), st.floats(0, 1e6))
_WATTS = st.one_of(st.none(), st.floats(0, 1e9))
_TEXTS = st.text(max_size=3000)
_VALUES = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=300))
_REASONS = st.builds(
    Reason,
    st.sampled_from(ReasonCode),
    _TEXTS,
    st.dictionaries(st.text(min_size=1, max_size=20), _VALUES, max_size=20),
)
_POINTS = st.builds(
    OperatingPoint,
    version=st.integers(0, 2**31 - 1),
    max_batch_texts=st.integers(1, 1024),
    max_batch_tokens=st.integers(1, 2**20),
    max_delay_s=st.floats(0, 10),
    slo_latency_s=st.just(0.05),
    variant=st.text(max_size=80),
    sm_clock_mhz=st.integers(0, 3000),
    shed_low_priority=st.booleans(),
)
_DECISIONS = st.builds(
    Decision,
    at_s=st.just(0.0),
    action=st.sampled_from(Action),
    current_replicas=_COUNTS,
    desired_replicas=_COUNTS,
    operating_point=st.one_of(st.none(), _POINTS),
    forecast_rps=st.one_of(st.none(), st.floats(0, 1e7), st.just(math.inf)),
    predicted_p99_s=_SECONDS,
    predicted_watts=_WATTS,
    watts_basis=st.sampled_from(["measured", "profile"]),
    reasons=st.lists(_REASONS, max_size=20).map(tuple),
)
_ROWS = st.builds(
    FleetRow,
    at_s=st.just(AT_S),
    replicas_desired=_COUNTS,
    replicas_ready=_COUNTS,
    replicas_starting=_COUNTS,
    replicas_draining=_COUNTS,
    arrivals_rps=_SECONDS,
    p50_s=_SECONDS,
    p99_s=_SECONDS,
    watts=_WATTS,
    watts_source=st.sampled_from(["nvml", "rapl+modelled", "unknown", "replayed" * 20]),
    joules_total=st.one_of(st.none(), st.floats(0, 1e15)),
)
_IN_FORCE = st.sampled_from(
    [
        None,
        accepted(),
        accepted(power={}),
        accepted(annotations={"minwatt.dev/paused": "true"}),
        accepted(annotations={"minwatt.dev/replicas": "external"}),
    ]
)
_PROBLEMS = st.one_of(
    st.none(),
    st.builds(
        Problem,
        uid=st.just("u1"),
        generation=st.just(2),
        reason=st.sampled_from(["InvalidPolicy", "InvalidAnnotation", "NoProfile", "Infeasible"]),
        line=_TEXTS,
        paused=st.booleans(),
    ),
)
MOMENTS = st.builds(
    StatusMoment,
    at_s=st.floats(AT_S, AT_S + 1000),
    generation=st.integers(1, 3),
    in_force=_IN_FORCE,
    problem=_PROBLEMS,
    obstacle=st.one_of(st.none(), st.builds(Obstacle, st.just("TargetNotFound"), _TEXTS)),
    replicas=st.one_of(st.none(), st.builds(ReplicaCounts, *[_COUNTS] * 6)),
    decision=st.one_of(st.none(), _DECISIONS),
    decided_at_s=st.one_of(st.none(), st.floats(AT_S - 10, AT_S)),
    row=st.one_of(st.none(), _ROWS),
    fence=st.one_of(st.none(), st.builds(Fence, st.text(max_size=300), _COUNTS)),
)
