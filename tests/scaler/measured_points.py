"""Points as a profile's measurement gives them, made from lines that are known."""

from __future__ import annotations

from datetime import UTC, datetime

from scaler.fit import Subject
from scaler.profile import MeterNote, Point, ReplicaSetup, StartUp

TEXT_TOKENS = 20
SUBJECT = Subject(
    model="tiny",
    model_version="1",
    device="a CPU",
    measured_at=datetime(2026, 1, 1, tzinfo=UTC),
    meter=MeterNote(source="modelled", parameters={"idle_w": 0.74}),
    replica=ReplicaSetup(engine_threads=1),
    accuracies={"int8": 0.94},
)
START_UP = StartUp(basis="measured", seconds=2, joules=6)


def point(
    rps: float,
    batch: float,
    compute_s: float,
    watts: float | None,
    *,
    p99_s: float = 0.02,
    variant: str = "int8",
    sm_clock_mhz: int = 0,
) -> Point:
    """A load that the replica kept up with."""
    return Point(
        variant=variant,
        sm_clock_mhz=sm_clock_mhz,
        max_batch_texts=16,
        max_delay_s=0.005,
        text_tokens=TEXT_TOKENS,
        offered_rps=rps,
        completed_rps=rps,
        p50_s=0.01,
        p99_s=p99_s,
        batch_mean_texts=batch,
        compute_s_per_batch=compute_s,
        watts=watts,
        duration_s=10,
    )


def idle(watts: float | None, *, variant: str = "int8", sm_clock_mhz: int = 0) -> Point:
    return Point(
        variant=variant,
        sm_clock_mhz=sm_clock_mhz,
        max_batch_texts=1,
        max_delay_s=0,
        text_tokens=1,
        offered_rps=0,
        completed_rps=0,
        p50_s=None,
        p99_s=None,
        batch_mean_texts=None,
        compute_s_per_batch=None,
        watts=watts,
        duration_s=10,
    )
