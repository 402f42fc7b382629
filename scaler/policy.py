"""PowerPolicy v1alpha1: what an SRE wants of a fleet, as a file says it.

Owns the schema, its defaults and ranges, and the list of fields that nothing acts on yet. Reading is
`documents`, acting is `control`. Called by the commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from minwatt.v1.quantities import format_duration, format_power
from scaler.documents import read_document
from scaler.quantities import (
    BatchDelay,
    Budget,
    ErrorBudget,
    Latency,
    Staleness,
    Tick,
    Window,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetRef(_Frozen):
    """The workload a Kubernetes fleet scales; local fleets have none."""

    api_version: str = Field(alias="apiVersion", default="apps/v1")
    kind: str = "Deployment"
    name: str = Field(min_length=1)


class Metadata(_Frozen):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Slo(_Frozen):
    latency_s: Latency = Field(alias="latency")  # at the server: queue + compute
    percentile: float = Field(default=99.0, ge=50, lt=100, strict=True)
    error_budget: ErrorBudget = Field(alias="errorBudget", default=0.001)


OverBudgetStep = Literal["lowerClocks", "cheaperVariant", "shedLowPriority"]


class Power(_Frozen):
    budget_w: Budget | None = Field(alias="budget", default=None)  # of the whole fleet; None: no bound
    when_over_budget: tuple[OverBudgetStep, ...] = Field(alias="whenOverBudget", default=())

    @field_validator("when_over_budget")
    @classmethod
    def _each_once(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(steps)) != len(steps):
            raise ValueError("allowed: each step once")
        return steps


class Replicas(_Frozen):
    min: int = Field(default=1, ge=1, le=10_000, strict=True)
    max: int = Field(ge=1, le=10_000, strict=True)

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min", 1):
            raise ValueError(f"allowed: replicas.min ({info.data['min']}) or more")
        return value


class Batching(_Frozen):
    """Bounds of the operating point."""

    max_size: int = Field(alias="maxSize", default=16, ge=1, le=1024, strict=True)  # texts
    max_delay_s: BatchDelay = Field(alias="maxDelay", default=0.010)


class Variants(_Frozen):
    allow: tuple[str, ...] = Field(default=(), max_length=16)  # empty: any
    min_accuracy: float | None = Field(alias="minAccuracy", default=None, ge=0, le=1)


def _yaml_off(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class Gpu(_Frozen):
    clocks: Annotated[Literal["auto", "off"], BeforeValidator(_yaml_off)] = "off"


def _window_or_auto(value: Any) -> Any:
    return None if value == "auto" else value


class ScaleDown(_Frozen):
    # None is `auto`: the time after which a start-up has cost less than the idle watts it saved
    window_s: Annotated[Window | None, BeforeValidator(_window_or_auto)] = Field(
        alias="stabilizationWindow", default=None
    )


class Behavior(_Frozen):
    tick_s: Tick = Field(alias="tick", default=5.0)
    scale_down: ScaleDown = Field(alias="scaleDown", default=ScaleDown())


class Telemetry(_Frozen):
    stale_after_s: Staleness = Field(alias="staleAfter", default=15.0)
    fallback_replicas: int | None = Field(
        alias="fallbackReplicas", default=None, ge=1, strict=True
    )  # None: replicas.max


class Carbon(_Frozen):
    intensity_file: str = Field(alias="intensityFile", min_length=1)


class Spec(_Frozen):
    target_ref: TargetRef | None = Field(alias="targetRef", default=None)
    model: str = Field(min_length=1)
    slo: Slo
    power: Power = Power()
    replicas: Replicas
    batching: Batching = Batching()
    variants: Variants = Variants()
    gpu: Gpu = Gpu()
    behavior: Behavior = Behavior()
    telemetry: Telemetry = Telemetry()
    carbon: Carbon | None = None

    @field_validator("telemetry")
    @classmethod
    def _fallback_within_bounds(cls, telemetry: Telemetry, info: ValidationInfo) -> Telemetry:
        bounds: Replicas | None = info.data.get("replicas")  # absent when it is wrong itself
        fallback = telemetry.fallback_replicas
        if bounds is not None and fallback is not None and not bounds.min <= fallback <= bounds.max:
            raise ValueError(
                f"fallbackReplicas = {fallback}: allowed: {bounds.min} to {bounds.max} (replicas.min to max)"
            )
        return telemetry

    @property
    def fallback_replicas(self) -> int:
        return self.telemetry.fallback_replicas or self.replicas.max


class Policy(_Frozen):
    api_version: Literal["minwatt.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["PowerPolicy"]
    metadata: Metadata
    spec: Spec

    def with_fixed_replicas(self, count: int) -> Policy:
        """The same policy with a fleet of always `count`."""
        telemetry = self.spec.telemetry.model_copy(update={"fallback_replicas": count})
        bounds = Replicas(min=count, max=count)
        spec = self.spec.model_copy(update={"replicas": bounds, "telemetry": telemetry})
        return self.model_copy(update={"spec": spec})

    def with_variants(self, names: Sequence[str]) -> Policy:
        """The same policy with these variants alone."""
        variants = self.spec.variants.model_copy(update={"allow": tuple(names)})
        return self.model_copy(update={"spec": self.spec.model_copy(update={"variants": variants})})

    def without_target(self) -> Policy:
        """The same policy for a loop whose fleet has the target already."""
        return self.model_copy(update={"spec": self.spec.model_copy(update={"target_ref": None})})

    def not_acted_on(self) -> tuple[str, ...]:
        """Fields that are set and that nothing acts on in this version, one sentence each."""
        spec = self.spec
        idle: list[str] = []
        if spec.target_ref is not None:
            idle.append(
                "targetRef: of a fleet on Kubernetes; here replicas are local processes or join by themselves"
            )
        if spec.carbon is not None:
            idle.append("carbon: the budget is not shifted; `minwatt backtest --carbon` counts gCO2")
        return tuple(idle)

    def summary(self) -> str:
        """What the policy asks for, in a few lines for a terminal."""
        spec = self.spec
        window = spec.behavior.scale_down.window_s
        budget = (
            "no budget" if spec.power.budget_w is None else f"at most {format_power(spec.power.budget_w)}"
        )
        down = "the energy break-even time" if window is None else format_duration(window)
        stale = format_duration(spec.telemetry.stale_after_s)
        lines = [
            f"PowerPolicy {self.metadata.name}: model {spec.model}",
            f"  slo       p{spec.slo.percentile:g} ≤ {format_duration(spec.slo.latency_s)} at the server, "
            f"{spec.slo.error_budget * 100:.4g}% of requests may miss it",
            f"  power     {budget} for the fleet",
            f"  replicas  {spec.replicas.min} to {spec.replicas.max}",
            f"  batching  up to {spec.batching.max_size} texts, {format_duration(spec.batching.max_delay_s)}",
            f"  tick      {format_duration(spec.behavior.tick_s)}, scale-down after {down}",
            f"  blind     hold; after {stale} at least {spec.fallback_replicas} replicas",
        ]
        return "\n".join(lines + [f"  not acted on: {sentence}" for sentence in self.not_acted_on()])


def load_policy(path: Path) -> Policy:
    """Raises UsageError: one line with file, field, value and what is allowed."""
    return read_document(path, Policy)
