"""Profiles, policies and signals that are made up: small numbers whose consequences one can see."""

from __future__ import annotations

from datetime import UTC, datetime

from scaler.policy import Policy
from scaler.profile import (
    ClockSet,
    ClockStep,
    MeterNote,
    Point,
    Power,
    Profile,
    RateAtSlo,
    ReplicaSetup,
    ServiceTime,
    StartUp,
    Variant,
)
from scaler.signals import FleetPower, Signals

TEXT_TOKENS = 16.0
CLOCKS = ClockSet(
    name="A",
    basis="assumed",
    steps=(
        ClockStep(sm_clock_mhz=1410, time_factor=1.0, power_factor=1.0),
        ClockStep(sm_clock_mhz=1175, time_factor=1.2, power_factor=0.72),
        ClockStep(sm_clock_mhz=940, time_factor=1.5, power_factor=0.52),
    ),
)


def service_time(**changes: object) -> ServiceTime:
    """2 ms a batch and 5 ms a text."""
    base: dict[str, object] = {
        "basis": "measured",
        "alpha_s": 0.002,
        "beta_s_per_token": 0.005 / TEXT_TOKENS,
        "residual_fraction": 0.05,
    }
    return ServiceTime.model_validate({**base, **changes})


def power(**changes: object) -> Power:
    base: dict[str, object] = {
        "basis": "measured",
        "idle_w": 0.74,
        "batch_w": 3.5,
        "token_w": 3.5,
        "residual_fraction": 0.05,
    }
    return Power.model_validate({**base, **changes})


def variant(**changes: object) -> Variant:
    base: dict[str, object] = {
        "name": "int8",
        "service_time": service_time(),
        "power": power(),
        "max_rps_at_slo": RateAtSlo(latency_s=0.1, rps=150),
    }
    return Variant.model_validate({**base, **changes})


def profile(*variants: Variant, **changes: object) -> Profile:
    """About 190 texts a second of 16 tokens for one replica with batches of 8. `changes`: of its fields."""
    made = variants or (variant(),)
    point = Point(
        variant=made[0].name,
        max_batch_texts=8,
        max_delay_s=0.0,
        text_tokens=TEXT_TOKENS,
        offered_rps=50,
        completed_rps=50,
        p50_s=0.01,
        p99_s=0.02,
        batch_mean_texts=2,
        compute_s_per_batch=0.012,
        watts=2.0,
        duration_s=10,
    )
    base: dict[str, object] = {
        "model": "tiny",
        "model_version": "1",
        "device": "made up",
        "measured_at": datetime(2026, 1, 1, tzinfo=UTC),
        "meter": MeterNote(source="modelled"),
        "replica": ReplicaSetup(engine_threads=1),
        "text_tokens": TEXT_TOKENS,
        "variants": made,
        "start_up": StartUp(basis="measured", seconds=2, joules=5),
        "points": (point,),
    }
    return Profile.model_validate({**base, **changes})


def card(**changes: object) -> Profile:
    """A card whose clock can be held at three steps, and that stays powered when its replica is gone."""
    made = variant(power=power(idle_w=55, batch_w=81, token_w=331, parked_w=45))
    base: dict[str, object] = {
        "clock_sets": (CLOCKS,),
        "start_up": StartUp(basis="assumed", seconds=20, joules=1800),
    }
    return profile(made, **{**base, **changes})


def policy(**spec: object) -> Policy:
    """Fields of `spec` as the file writes them."""
    base: dict[str, object] = {
        "model": "tiny",
        "slo": {"latency": "100ms"},
        "replicas": {"min": 1, "max": 6},
        "batching": {"maxSize": 8, "maxDelay": "10ms"},
        "behavior": {"tick": "1s"},
    }
    document = {"apiVersion": "minwatt.dev/v1alpha1", "kind": "PowerPolicy", "metadata": {"name": "tiny"}}
    return Policy.model_validate({**document, "spec": {**base, **spec}})


def signals(**changes: object) -> Signals:
    """Two ready replicas at 100 requests a second of one text each, and nothing wrong with them."""
    base: dict[str, object] = {
        "at_s": 0.0,
        "ready": 2,
        "starting": 0,
        "draining": 0,
        "arrivals_rps": 100.0,
        "completions_rps": 100.0,
        "refusals_rps": 0.0,
        "overload_refusals_rps": 0.0,
        "queue_depth": 0,
        "in_flight": {},
        "power": FleetPower(None, "unknown"),
        "latencies": None,
        "recent_latencies": None,
        "texts_per_request": 1.0,
        "text_tokens": TEXT_TOKENS,
        "batch_mean_texts": 1.0,
        "batch_tokens": TEXT_TOKENS,
        "compute_s_per_batch": 0.007,
        "batches": 100.0,
        "padding_fraction": 0.0,
        "start_up_s": 2.0,
        "highest_point_version": 1,
    }
    return Signals(**{**base, **changes})  # type: ignore[arg-type]
