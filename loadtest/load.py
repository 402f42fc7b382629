"""From what the user asked for to a plan: the options of a load, checked, and the requests they mean.

Owns the options' ranges, which of them go together, and their one-line errors. Leaves the drawing of
arrivals to `arrivals` and `trace`. Called by `cli`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from loadtest.arrivals import POISSON_CV, RAMP_STEPS, Diurnal, diurnal, draw, flat, stairs
from loadtest.capture import captured_plan, read_captures
from loadtest.plan import Payload, Plan, Task, build_plan, payload
from loadtest.texts import packaged_texts, read_texts
from loadtest.trace import Arrivals, Fit, arrivals, read_trace
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import parse_duration_s

_DEFAULT_DURATION_S = 60.0
_DEFAULT_STEPS = 5


class Shape(StrEnum):
    CONSTANT = "constant"  # evenly spaced
    POISSON = "poisson"
    DIURNAL = "diurnal"
    RAMP = "ramp"  # evenly from --start-rps to --peak-rps
    STEPS = "steps"  # as a ramp, in --steps of equal height and length


class TaskMix(StrEnum):
    CLASSIFY = "classify"
    EXTRACT = "extract"
    MIXED = "mixed"  # half of the requests each


def _seconds(value: object) -> object:
    """A duration as typed; defaults are seconds already."""
    return parse_duration_s(value) if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def flag(name: str) -> str:
    """The command's spelling of a field, so that errors name what was typed."""
    return "--" + name.removesuffix("_s").replace("_", "-")


class LoadOptions(BaseModel):
    """What to send and when. Exactly one of `trace`, `capture` and `generate`; None is "not given"."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=flag, populate_by_name=True)

    trace: Path | None = None
    capture: Path | None = None  # a file or a folder of them
    generate: Shape | None = None
    duration_s: Duration | None = None
    peak_rps: _Positive | None = None
    rate_scale: _Positive | None = None
    time_scale: _Positive | None = None
    arrivals_cv: float | None = Field(default=None, ge=0, le=20)
    start_rps: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=2, le=1000)
    trough: float | None = Field(default=None, ge=0, le=1)
    flash_crowds: int | None = Field(default=None, ge=0, le=24)
    flash_factor: float | None = Field(default=None, ge=1, le=100)
    seed: int = Field(default=0, ge=0)
    texts: Path | None = None
    task: TaskMix = TaskMix.MIXED

    def given(self) -> dict[str, str]:
        """What was asked for, for the record."""
        values = self.model_dump(exclude_none=True, mode="json", by_alias=False)
        return {
            name.removesuffix("_s").replace("_", " "): f"{value:g} s" if name.endswith("_s") else str(value)
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Load:
    """A plan and what to know about it."""

    plan: Plan
    gap_s: float  # of the trace without data, hence without arrivals
    notes: tuple[str, ...] = ()  # for the user, before it is sent

    def with_one_deadline(self) -> Load:
        """The run's, whatever the requests' own were."""
        return replace(self, plan=replace(self.plan, deadlines_s=None))


def make_load(options: LoadOptions) -> Load:
    """Reads the files, draws the arrivals. Same options, same load. Raises UsageError."""
    _check_together(options)
    rng = np.random.default_rng(options.seed)
    if options.capture is not None:
        return _from_capture(options.capture, options, rng)
    found = _from_trace(options, rng) if options.trace else _generated(options, rng)
    if not len(found.planned_s):
        raise UsageError(f"no request falls into the {found.duration_s:g} s of the run: nothing to send")
    return Load(build_plan(found.planned_s, found.duration_s, payloads(options), rng), found.gap_s)


def payloads(options: LoadOptions) -> list[list[Payload]]:
    """One group a task, one text a request."""
    tasks = [Task(options.task.value)] if options.task is not TaskMix.MIXED else list(Task)
    own = read_texts(options.texts) if options.texts else None
    return [[payload(task, [text]) for text in own or packaged_texts(task)] for task in tasks]


def _from_trace(options: LoadOptions, rng: np.random.Generator) -> Arrivals:
    assert options.trace is not None  # noqa: S101 - the caller's condition, for the type checker
    return arrivals(read_trace(options.trace), _fit(options), rng)


def _fit(options: LoadOptions) -> Fit:
    return Fit(
        time_scale=options.time_scale or 1.0,
        rate_scale=options.rate_scale,
        peak_rps=options.peak_rps,
        duration_s=options.duration_s,
        cv=options.arrivals_cv,
    )


def _from_capture(path: Path, options: LoadOptions, rng: np.random.Generator) -> Load:
    captured = read_captures(path)
    plan = captured_plan(captured, _fit(options), rng)
    if not len(plan):
        raise UsageError(f"no request falls into the {plan.duration_s:g} s of the run: nothing to send")
    notes = []
    if captured.share < 1 and options.rate_scale is None and options.peak_rps is None:
        notes.append(
            f"{path}: {captured.share:.3g} of the requests were captured, and so many are sent; "
            f"--rate-scale {1 / captured.share:.3g} draws as many as there were"
        )
    if captured.cut_files:
        notes.append(f"{path}: {captured.cut_files} files end within a line, which is left out")
    return Load(plan, 0.0, tuple(notes))


def _generated(options: LoadOptions, rng: np.random.Generator) -> Arrivals:
    duration_s = options.duration_s or _DEFAULT_DURATION_S
    peak_rps = options.peak_rps or 0.0
    if options.generate is Shape.CONSTANT:
        return Arrivals(draw(flat(peak_rps, duration_s), rng, cv=0.0), duration_s)
    if options.generate is Shape.POISSON:
        return Arrivals(draw(flat(peak_rps, duration_s), rng), duration_s)
    cv = POISSON_CV if options.arrivals_cv is None else options.arrivals_cv
    if options.generate in {Shape.RAMP, Shape.STEPS}:
        steps = RAMP_STEPS if options.generate is Shape.RAMP else options.steps or _DEFAULT_STEPS
        curve = stairs(options.start_rps or 0.0, peak_rps, steps, duration_s)
        return Arrivals(draw(curve, rng, cv), duration_s)
    chosen: dict[str, Any] = {
        "trough_fraction": options.trough,
        "flash_crowds": options.flash_crowds,
        "flash_factor": options.flash_factor,
    }
    shape = Diurnal(
        duration_s, peak_rps, **{key: value for key, value in chosen.items() if value is not None}
    )
    return Arrivals(draw(diurnal(shape, rng), rng, cv), duration_s)


def _check_together(options: LoadOptions) -> None:
    """Options that have no effect, or fight one another, are mistakes, not silence."""
    if sum(one is not None for one in (options.trace, options.capture, options.generate)) != 1:
        raise UsageError(f"give either --trace FILE, --capture FILE or --generate {'|'.join(Shape)}")
    if options.rate_scale is not None and options.peak_rps is not None:
        raise UsageError("give either --rate-scale or --peak-rps")
    if options.generate is not None and options.peak_rps is None:
        raise UsageError(f"--generate {options.generate} needs --peak-rps, its highest requests per second")
    if (options.start_rps or 0.0) > (options.peak_rps or math.inf):
        raise UsageError(f"--start-rps = {options.start_rps:g}: allowed: up to --peak-rps")
    for name in sorted(_without_effect(options)):
        if getattr(options, name) is not None:
            load = "--trace" if options.trace else "--capture"
            if options.generate is not None:
                load = f"--generate {options.generate}"
            raise UsageError(f"{flag(name)} = {_shown(getattr(options, name))}: does not go with {load}")


def _without_effect(options: LoadOptions) -> set[str]:
    """The fields that do not go with where the load comes from."""
    of_shapes = {
        Shape.CONSTANT: set[str](),
        Shape.POISSON: set[str](),
        Shape.DIURNAL: {"trough", "flash_crowds", "flash_factor", "arrivals_cv"},
        Shape.RAMP: {"start_rps", "arrivals_cv"},
        Shape.STEPS: {"start_rps", "steps", "arrivals_cv"},
    }
    every = set[str]().union(*of_shapes.values())
    if options.generate is not None:
        return {"rate_scale", "time_scale"} | every - of_shapes[options.generate]
    without = every - {"arrivals_cv"}
    return without if options.capture is None else without | {"texts", "task"} & options.model_fields_set


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Path | StrEnum) else repr(value)
