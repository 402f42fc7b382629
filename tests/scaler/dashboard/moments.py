"""Rows, reports and decisions of a fleet that is made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler.bus import FleetView
from scaler.dashboard.board import Board
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.latency_sketch import encode
from scaler.operating_point import OperatingPoint
from scaler.record import FleetRow
from scaler.report import Metered, ReplicaState, Report
from scaler.settings import Settings
from tests.scaler.made_up import policy, profile

START_S = 1_700_000_000.0
POINT = OperatingPoint(
    version=1,
    max_batch_texts=8,
    max_batch_tokens=1024,
    max_delay_s=0.002,
    slo_latency_s=0.1,
    variant="",
)


def settings() -> Settings:
    return Settings(policy(), profile())


def row(second: int, **changes: Any) -> FleetRow:
    """120 requests/s on two replicas of 6 W together, for 6 J a second."""
    base: dict[str, Any] = {
        "at_s": START_S + second,
        "replicas_desired": 2,
        "replicas_ready": 2,
        "replicas_starting": 0,
        "replicas_draining": 0,
        "arrivals_rps": 120.0,
        "completions_rps": 120.0,
        "refusals_rps": 0.0,
        "p50_s": 0.012,
        "p99_s": 0.041,
        "late_fraction": 0.25,
        "watts": 6.0,
        "watts_source": "modelled",
        "joules_total": 6.0 * second,
        "max_batch_texts": 8,
        "max_delay_s": 0.002,
    }
    return FleetRow(**{**base, **changes})


def reason(code: ReasonCode, message: str = "so it is", **values: float) -> Reason:
    return Reason(code, message, values)


LOAD = reason(ReasonCode.LOAD, "120.0 rps now", arrivals_rps=120.0, forecast_rps=140.4, horizon_s=7.0)


def decision(current: int, desired: int, *reasons: Reason, action: Action | None = None) -> Decision:
    moved = Action.UP if desired > current else Action.DOWN if desired < current else Action.KEEP
    return Decision(
        at_s=1.0,
        action=action or moved,
        current_replicas=current,
        desired_replicas=desired,
        operating_point=POINT,
        forecast_rps=140.4,
        predicted_p99_s=0.04,
        predicted_watts=6.0,
        watts_basis="measured",
        reasons=(*reasons, LOAD),
    )


def report(name: str, received_s: float, **changes: Any) -> Report:
    base: Mapping[str, Any] = {
        "replica_id": name,
        "received_s": received_s,
        "state": ReplicaState.READY,
        "power": Metered("modelled", f"process:{name}", 3.0 * received_s, 3.0),
        "arrivals_total": round(60 * received_s),
        "completions_total": round(60 * received_s),
        "batches_total": round(20 * received_s),
        "batched_texts_total": round(60 * received_s),
        "busy_s_total": 0.4 * received_s,
        "queue_depth": 2,
        "in_flight": 3,
        "latency_sketch": encode([0.02] * 60),
    }
    return Report(**{**base, **changes})


def view(replicas: int, received_s: float) -> FleetView:
    names = [f"replica-{number}" for number in range(1, replicas + 1)]
    return FleetView.of(frozenset(names), [report(name, received_s) for name in names])


def board_with(replicas: int, seconds: int) -> Board:
    """A board that has seen so much; its replicas were heard just now."""
    board = Board(settings(), clock=lambda: float(seconds))
    for second in range(1, seconds + 1):
        board.roster.hear(view(replicas, float(second)))
        board.observed(row(second))
    board.decided(decision(1, 2), START_S + seconds)
    return board
