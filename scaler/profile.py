"""A profile: latency and watts of a model's variants on one device, and the points they were fitted to.

Owns the schema of the profile file and what can be read off it. Fitting is `fit`, measuring is
`minwatt profile`; predicting from it is `latency` and `plan`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from minwatt.v1.variant_rule import accurate_enough
from scaler.documents import read_document
from scaler.engine import Engine

_SUSTAINED = 0.98  # of the offered load completed: below, the queue was growing
_COUNTING_NOISE = 2.0  # standard deviations of a Poisson count over the point's duration: not a growing queue
# A residual above which a fit is called poor: it moves predicted joules and throughput by as much.
_POOR_FIT = 0.15
_FILE_HEAD = "# A minwatt profile, see docs/profile.md. Seconds, watts, joules, MHz; null: unknown.\n"


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


Basis = Literal["measured", "published", "assumed"]


class Point(_Frozen):
    """One replica at one operating point under one steady open-loop load. Requests have one text each.

    With `offered_rps` 0 (the idle point) the latencies and the batch are null. `watts` is null if unknown.
    """

    variant: str
    sm_clock_mhz: int = Field(ge=0, default=0)  # 0: the card was left alone
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
        """Whether the replica kept up: at 100 requests/s over 4 s, with 352 or more of 400 answered."""
        noise_rps = _COUNTING_NOISE * math.sqrt(self.offered_rps / self.duration_s)
        return self.completed_rps >= _SUSTAINED * self.offered_rps - noise_rps


class ServiceTime(_Frozen):
    """Seconds of compute of a batch: alpha_s + beta_s_per_token · padded tokens of the batch.

    `saturation` is the fraction of time that the engine computes when more is offered than a replica can do.
    The rest goes to handing batches over: a batch occupies the replica for its compute over `saturation`.
    """

    basis: Basis
    alpha_s: float = Field(ge=0)
    beta_s_per_token: float = Field(gt=0)
    residual_fraction: float | None = Field(ge=0)  # root mean square of (measured - fitted) / measured
    saturation: float = Field(gt=0, le=1, default=1.0)


class Power(_Frozen):
    """Watts of a replica: `idle_w` between batches, `batch_w` during a batch's fixed part, `token_w` during
    its per-token part.

    `parked_w` stays drawn on the device after its replica is gone: a card that stays powered. 0 for a
    process, or where the node is released.
    """

    basis: Basis
    idle_w: float = Field(ge=0)
    batch_w: float = Field(ge=0)
    token_w: float = Field(gt=0)
    residual_fraction: float | None = Field(ge=0)
    parked_w: float = Field(ge=0, default=0.0)


class RateAtSlo(_Frozen):
    """The most one replica was measured to complete with p99 within `latency_s`; `rps` null: at no point."""

    latency_s: float = Field(gt=0)
    rps: float | None = Field(ge=0)


class Variant(_Frozen):
    """One precision variant. `accuracy` as the model directory states it; null: unknown."""

    name: str = Field(min_length=1)
    accuracy: float | None = Field(ge=0, le=1, default=None)
    service_time: ServiceTime
    power: Power
    max_rps_at_slo: RateAtSlo | None = None  # null: not measured


class StartUp(_Frozen):
    """From the start of a replica's process to ready."""

    basis: Basis
    seconds: float = Field(gt=0)
    joules: float = Field(ge=0)


class ClockStep(_Frozen):
    """At `sm_clock_mhz` a batch takes `time_factor` × as long and draws `power_factor` × the watts."""

    sm_clock_mhz: int = Field(ge=1)
    time_factor: float = Field(ge=1)
    power_factor: float = Field(gt=0, le=1)


class ClockSet(_Frozen):
    """The clocks a card may be held at, fastest first. Figures that use one say its name."""

    name: str = Field(min_length=1)
    basis: Basis
    steps: tuple[ClockStep, ...] = Field(min_length=1)

    @field_validator("steps")
    @classmethod
    def _fastest_first(cls, steps: tuple[ClockStep, ...]) -> tuple[ClockStep, ...]:
        if (steps[0].time_factor, steps[0].power_factor) != (1, 1):
            raise ValueError("the first step must have the factors 1 and 1: it is the full clock")
        if any(b.time_factor < a.time_factor or b.sm_clock_mhz >= a.sm_clock_mhz for a, b in pairwise(steps)):
            raise ValueError("steps must go from the fastest clock to the slowest")
        return steps


class Profile(_Frozen):
    """What a model does on a device: fitted lines by variant, and the points they were fitted to.

    A *reference* profile has no points: its figures are published or assumed, each says which.
    """

    format: Literal[2] = 2
    kind: Literal["Profile"] = "Profile"
    model: str
    model_version: str
    device: str
    measured_at: datetime  # of a reference profile: when it was put together
    meter: MeterNote
    replica: ReplicaSetup
    text_tokens: float = Field(gt=0)  # mean padded tokens a text: what to expect before traffic tells
    variants: tuple[Variant, ...] = Field(min_length=1)  # the first is the default
    clock_sets: tuple[ClockSet, ...] = ()  # the first is the default; none: the clock can't be moved
    start_up: StartUp
    points: tuple[Point, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_this_format(cls, document: Any) -> Any:
        found = document.get("format", 2) if isinstance(document, dict) else 2
        if found != 2:
            raise ValueError(f"format = {found!r}: allowed: 2; measure again with `minwatt profile`")
        return document

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        _unique("variants", (variant.name for variant in self.variants))
        _unique("clock_sets", (clocks.name for clocks in self.clock_sets))
        known = {variant.name for variant in self.variants}
        for point in self.points:
            if point.variant not in known:
                raise ValueError(f"points: variant = {point.variant!r}: allowed: {', '.join(sorted(known))}")
        bases = {self.start_up.basis, *(clocks.basis for clocks in self.clock_sets)}
        for variant in self.variants:
            bases |= {variant.service_time.basis, variant.power.basis}
        if self.is_reference and "measured" in bases:
            raise ValueError("basis = 'measured': there are no points; allowed: published, assumed")
        return self

    @property
    def is_reference(self) -> bool:
        return not self.points

    def variant(self, name: str = "") -> Variant:
        """By name; the default for an empty one. Raises KeyError."""
        if not name:
            return self.variants[0]
        return {variant.name: variant for variant in self.variants}[name]

    def allowed_variants(
        self, names: Collection[str] = (), least_accuracy: float | None = None
    ) -> list[Variant]:
        """Those of the names (none: all) that are known to be as accurate as asked, in the profile's
        order.
        """
        return [
            one
            for one in self.variants
            if (not names or one.name in names) and accurate_enough(one.accuracy, least_accuracy)
        ]

    @property
    def switch(self) -> StartUp:
        """What a running replica takes to load and warm another variant while the old one answers.

        Assumed: as long as a start, of which loading and warming are the most; and its joules but those that
        the replica draws all the same, idle.
        """
        more_j = self.start_up.joules - self.variants[0].power.idle_w * self.start_up.seconds
        return StartUp(basis="assumed", seconds=self.start_up.seconds, joules=max(0.0, more_j))

    def clock_steps(self, clock_set: str = "") -> tuple[ClockStep, ...]:
        """Of the set by name, or of the default; empty where the clock can't be moved. Raises KeyError."""
        if not clock_set:
            return self.clock_sets[0].steps if self.clock_sets else ()
        return {one.name: one.steps for one in self.clock_sets}[clock_set]

    def doubts(self) -> tuple[str, ...]:
        """What a reader of the figures must know, one sentence each: fits that are poor."""
        return tuple(
            f"{variant.name}: the fit of the {what} is poor ({residual:.0%} off):"
            " measure longer, with nothing else running"
            for variant in self.variants
            for what, residual in (
                ("service time", variant.service_time.residual_fraction),
                ("watts", variant.power.residual_fraction),
            )
            if residual is not None and residual > _POOR_FIT
        )

    def engine(self, text_tokens: float, variant: str = "", clock: ClockStep | None = None) -> Engine:
        """Seconds and joules for texts of that length. The watts above idle are those of the compute alone:
        where handing over takes a part of each batch's time (`saturation`), its watts are less by that part.

        A device that computes draws no less than one that idles: idle watts do not fall with the clock, so
        a factor fitted to large batches would undercut them in small ones, as if computing were free. There
        a batch of one draws what idling does.
        """
        line, power = self.variant(variant).service_time, self.variant(variant).power
        time_factor, power_factor = (clock.time_factor, clock.power_factor) if clock else (1.0, 1.0)
        slower = time_factor / line.saturation
        alpha_s, beta_s = line.alpha_s, line.beta_s_per_token * text_tokens
        token_w = max(0.0, power.token_w * power_factor - power.idle_w)  # above idle
        batch_w = power.batch_w * power_factor - power.idle_w
        if alpha_s * batch_w + beta_s * token_w < 0:
            batch_w = -token_w * beta_s / alpha_s
        return Engine(
            alpha_s=slower * alpha_s,
            beta_s_per_text=slower * beta_s,
            idle_w=power.idle_w,
            batch_w=power.idle_w + batch_w * line.saturation,
            token_w=power.idle_w + token_w * line.saturation,
        )


def _unique(field: str, names: Iterable[str]) -> None:
    listed = list(names)
    if len(set(listed)) != len(listed):
        raise ValueError(f"{field}: allowed: each name once")


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
    path.write_text(f"{_FILE_HEAD}{text}points:\n{rows}", encoding="utf-8")
