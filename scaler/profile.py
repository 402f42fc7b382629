"""A profile: measured latency and watts of one model variant on one device, and the lines fitted to them.

Owns the schema of the profile file and the fit. Measuring is `minwatt profile`, which calls `fit` and
`save_profile`; predicting from it is `latency` and `plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from scaler.documents import read_document

_SUSTAINED = 0.98  # of the offered load completed: below, the queue was growing
_Floats = NDArray[np.float64]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MeterNote(_Frozen):
    """Where the watts came from; a modelled meter's parameters are part of every figure."""

    source: str = Field(min_length=1)
    parameters: dict[str, float] = Field(default_factory=dict)
    notes: str = ""


class ReplicaSetup(_Frozen):
    """How the measured replica was started; replicas planned with this profile start the same way."""

    engine_threads: int = Field(ge=1)
    max_batch_tokens: int = Field(ge=1, default=2048)
    provider: str = "cpu"


class Subject(_Frozen):
    """What was measured, where and when."""

    model: str
    model_version: str
    variant: str
    device: str
    measured_at: datetime
    meter: MeterNote
    replica: ReplicaSetup


class Point(_Frozen):
    """One replica at one operating point under one steady open-loop load. Requests have one text each.

    With `offered_rps` 0 (the idle point) the latencies and the batch are null. `watts` is null if unknown.
    """

    max_batch_texts: int = Field(ge=1)
    max_delay_s: float = Field(ge=0)
    text_tokens: float = Field(gt=0)  # mean padded tokens a text
    offered_rps: float = Field(ge=0)
    completed_rps: float = Field(ge=0)
    p50_s: float | None = Field(ge=0)  # at the server: queue + compute
    p99_s: float | None = Field(ge=0)
    batch_mean_texts: float | None = Field(gt=0)
    compute_s_per_batch: float | None = Field(gt=0)
    watts: float | None = Field(ge=0)
    duration_s: float = Field(gt=0)

    @property
    def sustained(self) -> bool:
        return self.completed_rps >= _SUSTAINED * self.offered_rps


class ServiceTime(_Frozen):
    """Seconds of compute of a batch: alpha_s + beta_s_per_token · padded tokens of the batch.

    `saturation` is the fraction of time that the engine computes when more is offered than a replica can do.
    The rest goes to handing batches over: a batch occupies the replica for its compute over `saturation`.
    """

    alpha_s: float = Field(ge=0)
    beta_s_per_token: float = Field(gt=0)
    residual_fraction: float = Field(ge=0)  # root mean square of (measured - fitted) / measured
    saturation: float = Field(gt=0, le=1, default=1.0)


class PowerLine(_Frozen):
    """Watts of a replica: idle_w + (busy_w - idle_w) · the fraction of time its engine computes.

    `parked_w` stays drawn on the device after its replica is gone: a card that stays powered. 0 for a
    process.
    """

    idle_w: float = Field(ge=0)
    busy_w: float = Field(gt=0)
    residual_fraction: float = Field(ge=0)
    parked_w: float = Field(ge=0, default=0.0)


class StartUp(_Frozen):
    """From the start of a replica's process to ready."""

    seconds: float = Field(gt=0)
    joules: float = Field(ge=0)


class RateAtSlo(_Frozen):
    """The most one replica was measured to complete with p99 within `latency_s`; null: at no point."""

    latency_s: float = Field(gt=0)
    rps: float | None = Field(ge=0)


class Profile(Subject):
    format: Literal[1] = 1
    kind: Literal["Profile"] = "Profile"
    service_time: ServiceTime
    power: PowerLine
    start_up: StartUp
    max_rps_at_slo: RateAtSlo
    points: tuple[Point, ...] = Field(min_length=1)

    @property
    def text_tokens(self) -> float:
        """Mean padded tokens of a text over the measured points: what to expect before traffic tells."""
        loaded = [point.text_tokens for point in self.points if point.offered_rps > 0]
        return float(np.mean(loaded or [point.text_tokens for point in self.points]))


@dataclass(frozen=True, slots=True)
class _Line:
    intercept: float
    slope: float
    residual_fraction: float


def fit(
    subject: Subject,
    points: Sequence[Point],
    start_up: StartUp,
    *,
    slo_latency_s: float,
    parked_w: float = 0.0,
) -> Profile:
    """Least squares, each residual relative to its measurement, neither coefficient below 0.

    Raises ValueError when the points can't carry a line: it says which points are missing.
    """
    within = [
        point.completed_rps
        for point in points
        if point.p99_s is not None and point.p99_s <= slo_latency_s and point.sustained
    ]
    return Profile(
        **{name: getattr(subject, name) for name in Subject.model_fields},
        points=tuple(points),
        service_time=_service_time(points),
        power=_power(points, parked_w),
        start_up=start_up,
        max_rps_at_slo=RateAtSlo(latency_s=slo_latency_s, rps=max(within, default=None)),
    )


def _service_time(points: Sequence[Point]) -> ServiceTime:
    pairs = [
        (point.batch_mean_texts * point.text_tokens, point.compute_s_per_batch)
        for point in points
        if point.batch_mean_texts is not None and point.compute_s_per_batch is not None
    ]
    if len({tokens for tokens, _ in pairs}) < 2:
        raise ValueError("the service time needs points with compute of at least two sizes of batch")
    line = _relative_line(np.array([x for x, _ in pairs]), np.array([y for _, y in pairs]))
    if line.slope <= 0:
        raise ValueError(
            "the measured compute does not grow with the batch: measure longer, or larger batches"
        )
    # The median: while a replica falls behind, some points' batches are still growing.
    saturated = [
        _busy_fraction(point) for point in points if not point.sustained and _busy_fraction(point) > 0
    ]
    return ServiceTime(
        alpha_s=line.intercept,
        beta_s_per_token=line.slope,
        residual_fraction=line.residual_fraction,
        saturation=float(np.median(saturated)) if saturated else 1.0,
    )


def _power(points: Sequence[Point], parked_w: float) -> PowerLine:
    metered = [(_busy_fraction(point), point.watts) for point in points if point.watts is not None]
    if len({busy for busy, _ in metered}) < 2:
        raise ValueError("the power line needs watts at two loads at least; is the meter known?")
    line = _relative_line(np.array([x for x, _ in metered]), np.array([y for _, y in metered]))
    return PowerLine(
        idle_w=line.intercept,
        busy_w=line.intercept + line.slope,
        residual_fraction=line.residual_fraction,
        parked_w=parked_w,
    )


def _busy_fraction(point: Point) -> float:
    """The fraction of time the engine computed."""
    if point.batch_mean_texts is None or point.compute_s_per_batch is None:
        return 0.0
    return min(1.0, point.completed_rps / point.batch_mean_texts * point.compute_s_per_batch)


def _relative_line(x: _Floats, y: _Floats) -> _Line:
    """y ≈ intercept + slope · x, both 0 or more, least squares of (measured - fitted) / measured."""
    weights = 1.0 / np.maximum(y, 1e-6 * y.max())

    def solve(*columns: _Floats) -> _Floats:
        design = np.stack(columns, axis=1) * weights[:, None]
        return np.asarray(np.linalg.lstsq(design, y * weights, rcond=None)[0], dtype=np.float64)

    ones = np.ones_like(x)
    intercept, slope = solve(ones, x)
    if intercept < 0:
        intercept, slope = 0.0, solve(x)[0]
    elif slope < 0:
        intercept, slope = solve(ones)[0], 0.0
    residuals = (intercept + slope * x - y) * weights
    return _Line(float(intercept), float(slope), float(np.sqrt(np.mean(residuals**2))))


def load_profile(path: Path) -> Profile:
    """Raises UsageError: one line with file, field, value and what is allowed."""
    return read_document(path, Profile)


def save_profile(profile: Profile, path: Path) -> None:
    """Writes the file that `load_profile` reads; the points, one a line, come last."""
    document = profile.model_dump(mode="json")
    points = document.pop("points")
    head = {"format": document.pop("format"), "kind": document.pop("kind"), **document}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=110)
    rows = yaml.safe_dump(points, sort_keys=False, default_flow_style=None, width=1000)
    path.write_text(f"{text}points:\n{rows}", encoding="utf-8")
