"""Measured points to a profile's lines: time and watts of each variant, and the factors of each clock.

Pure. Owns what is fitted to what; the arithmetic is `least_squares`', the schema `profile`'s. Called by
`minwatt profile`. Every residual is relative to its measurement; no coefficient is below 0, and no watts
under load are below idle:

    seconds of a batch   alpha + beta·tokens
    watts of a replica   idle_w + u_batch·(batch_w - idle_w) + u_token·(token_w - idle_w)
                         u_batch = batches/s·alpha, u_token = tokens/s·beta: the parts of time in each
    a slower clock       seconds × time_factor; batch_w and token_w × power_factor, idle_w as it was
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from scaler.least_squares import Floats, independent, least_squares
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

MEASURED_CLOCKS = "measured"  # name of the clock set


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured, where and when. `accuracies`: of each variant, None or absent where unknown."""

    model: str
    model_version: str
    device: str
    measured_at: datetime
    meter: MeterNote
    replica: ReplicaSetup
    accuracies: Mapping[str, float | None] = field(default_factory=dict)


def fit(
    subject: Subject,
    points: Sequence[Point],
    start_up: StartUp,
    *,
    slo_latency_s: float,
    parked_w: float = 0.0,
) -> Profile:
    """Variants in the order in which they first appear; the first is the default.

    Raises ValueError when the points can't carry a line: it says which points are missing.
    """
    names = list(dict.fromkeys(point.variant for point in points))
    if not names:
        raise ValueError("there are no points")
    full_mhz = max(point.sm_clock_mhz for point in points)
    at_full = [point for point in points if point.sm_clock_mhz == full_mhz]
    variants = tuple(
        _variant(
            name,
            [point for point in at_full if point.variant == name],
            subject.accuracies.get(name),
            slo_latency_s,
            parked_w,
        )
        for name in names
    )
    loaded = [point.text_tokens for point in points if point.offered_rps > 0]
    return Profile(
        model=subject.model,
        model_version=subject.model_version,
        device=subject.device,
        measured_at=subject.measured_at,
        meter=subject.meter,
        replica=subject.replica,
        text_tokens=float(np.mean(loaded)),
        variants=variants,
        clock_sets=_clock_sets(points, {variant.name: variant for variant in variants}, full_mhz),
        start_up=start_up,
        points=tuple(points),
    )


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the fitted lines say of a measured point. `compute_s_per_batch`: None without load."""

    compute_s_per_batch: float | None
    watts: float


def fitted(profile: Profile, point: Point) -> Fitted:
    """Of a point of the profile itself."""
    variant = profile.variant(point.variant)
    measured = {clocks.name: clocks.steps for clocks in profile.clock_sets}.get(MEASURED_CLOCKS, ())
    step = next((step for step in measured if step.sm_clock_mhz == point.sm_clock_mhz), None)
    time_factor, power_factor = (step.time_factor, step.power_factor) if step else (1.0, 1.0)
    batch = _computed(point)
    if batch is None:
        return Fitted(None, variant.power.idle_w)
    idle_w, busy_w = _idle_and_busy_w(batch, variant, time_factor)
    return Fitted(time_factor * _line_s(variant.service_time, batch.tokens), idle_w + busy_w * power_factor)


def _variant(
    name: str, points: Sequence[Point], accuracy: float | None, slo_latency_s: float, parked_w: float
) -> Variant:
    within = [
        point.completed_rps
        for point in points
        if point.p99_s is not None and point.p99_s <= slo_latency_s and point.sustained
    ]
    try:
        line = _service_time(points)
        power = _power(points, line, parked_w)
    except ValueError as error:
        raise ValueError(f"variant {name}: {error}") from error
    best = RateAtSlo(latency_s=slo_latency_s, rps=max(within, default=None))
    return Variant(name=name, accuracy=accuracy, service_time=line, power=power, max_rps_at_slo=best)


@dataclass(frozen=True, slots=True)
class _Computed:
    """The batches of a point: how many a second, of how many padded tokens, and how long one took."""

    per_s: float
    tokens: float
    seconds: float

    @property
    def busy_fraction(self) -> float:
        return min(1.0, self.per_s * self.seconds)

    def parts(self, line: ServiceTime, slower: float = 1.0) -> tuple[float, float]:
        """(u_batch, u_token) by the fitted line, times as slow as a clock makes it."""
        u_batch = slower * self.per_s * line.alpha_s
        return u_batch, slower * self.per_s * self.tokens * line.beta_s_per_token


def _computed(point: Point) -> _Computed | None:
    """None of a point without batches."""
    batch, seconds = point.batch_mean_texts, point.compute_s_per_batch
    if batch is None or seconds is None:
        return None
    return _Computed(point.completed_rps / batch, batch * point.text_tokens, seconds)


def _service_time(points: Sequence[Point]) -> ServiceTime:
    computed = [found for point in points if (found := _computed(point)) is not None]
    if len({batch.tokens for batch in computed}) < 2:
        raise ValueError("the service time needs points with compute of at least two sizes of batch")
    tokens = np.array([batch.tokens for batch in computed])
    seconds = np.array([batch.seconds for batch in computed])
    (alpha_s, beta_s_per_token), residual = least_squares(
        np.stack([np.ones_like(tokens), tokens], axis=1), seconds
    )
    if beta_s_per_token <= 0:
        raise ValueError(
            "the measured compute does not grow with the batch: measure longer, or larger batches"
        )
    # The median: while a replica falls behind, some points' batches are still growing.
    saturated = [
        batch.busy_fraction
        for point in points
        if not point.sustained and (batch := _computed(point)) is not None and batch.busy_fraction > 0
    ]
    return ServiceTime(
        basis="measured",
        alpha_s=alpha_s,
        beta_s_per_token=beta_s_per_token,
        residual_fraction=residual,
        saturation=float(np.median(saturated)) if saturated else 1.0,
    )


def _power(points: Sequence[Point], line: ServiceTime, parked_w: float) -> Power:
    """No device computes on fewer watts than it idles on: where the points seem to say so, that is noise.

    Where they don't tell a batch's fixed part from its tokens, both draw the same watts.
    """
    metered = [point for point in points if point.watts is not None]
    if len({point.completed_rps for point in metered}) < 2:
        raise ValueError("the power line needs watts at two loads at least; is the meter known?")
    watts = np.array([point.watts for point in metered])
    if not watts.any():
        raise ValueError("the watts of every point are 0: is the meter this replica's?")
    parts = np.array([_parts(point, line) for point in metered])
    design = np.column_stack([np.ones_like(watts), parts])
    if independent(design):
        (idle_w, batch_more_w, token_more_w), residual = least_squares(design, watts)
    else:
        design = np.column_stack([np.ones_like(watts), parts.sum(axis=1)])
        (idle_w, token_more_w), residual = least_squares(design, watts)
        batch_more_w = token_more_w
    return Power(
        basis="measured",
        idle_w=idle_w,
        batch_w=idle_w + batch_more_w,
        token_w=idle_w + token_more_w,
        residual_fraction=residual,
        parked_w=parked_w,
    )


def _parts(point: Point, line: ServiceTime) -> tuple[float, float]:
    batch = _computed(point)
    return (0.0, 0.0) if batch is None else batch.parts(line)


def _clock_sets(
    points: Sequence[Point], variants: Mapping[str, Variant], full_mhz: int
) -> tuple[ClockSet, ...]:
    """One set where several clocks were measured. All variants' points tell of a clock together."""
    slower_mhz = sorted({point.sm_clock_mhz for point in points} - {full_mhz}, reverse=True)
    if not slower_mhz:
        return ()
    if slower_mhz[-1] == 0:
        raise ValueError("some points have a clock and some have none: measure all with the same --clocks")
    steps = [ClockStep(sm_clock_mhz=full_mhz, time_factor=1.0, power_factor=1.0)]
    for mhz in slower_mhz:
        at_clock = [point for point in points if point.sm_clock_mhz == mhz]
        steps.append(_clock_step(mhz, at_clock, variants, steps[-1]))
    return (ClockSet(name=MEASURED_CLOCKS, basis="measured", steps=tuple(steps)),)


def _clock_step(
    mhz: int, points: Sequence[Point], variants: Mapping[str, Variant], faster: ClockStep
) -> ClockStep:
    """A slower clock is neither faster nor hungrier than the one above: where it seems so, that is noise."""
    loaded = [(point, batch) for point in points if (batch := _computed(point)) is not None]
    if not loaded:
        raise ValueError(f"clock {mhz} MHz: points with load are missing")
    at_full_s = [_line_s(variants[point.variant].service_time, batch.tokens) for point, batch in loaded]
    (time_factor,), _ = least_squares(_column(at_full_s), np.array([batch.seconds for _, batch in loaded]))
    time_factor = max(time_factor, faster.time_factor)
    metered = [
        (watts, *_idle_and_busy_w(batch, variants[point.variant], time_factor))
        for point, batch in loaded
        if (watts := point.watts) is not None
    ]
    if not metered:
        raise ValueError(f"clock {mhz} MHz: points with watts are missing; is the meter known?")
    drawn_w, idle_w, busy_w = np.array(metered).T
    (power_factor,), _ = least_squares(_column(busy_w), drawn_w - idle_w, relative_to=drawn_w)
    if power_factor <= 0:
        raise ValueError(f"clock {mhz} MHz: the watts under load are not above idle: measure longer")
    return ClockStep(
        sm_clock_mhz=mhz, time_factor=time_factor, power_factor=min(power_factor, faster.power_factor)
    )


def _line_s(line: ServiceTime, tokens: float) -> float:
    return line.alpha_s + line.beta_s_per_token * tokens


def _idle_and_busy_w(batch: _Computed, variant: Variant, time_factor: float) -> tuple[float, float]:
    """What the two states add to a point's mean watts at that clock, at the full clock's busy watts."""
    power = variant.power
    u_batch, u_token = batch.parts(variant.service_time, time_factor)
    return (1 - u_batch - u_token) * power.idle_w, u_batch * power.batch_w + u_token * power.token_w


def _column(values: Sequence[float] | Floats) -> Floats:
    return np.asarray(values, dtype=np.float64)[:, None]
