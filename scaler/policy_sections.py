"""The sections of a PowerPolicy's spec: each field's name, default and range, and what it means in words.

What one section asks of another is `policy`'s, as the whole document is. The CRD and docs/policy.md are made
of what stands here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from scaler.quantities import (
    BatchDelay,
    Budget,
    ErrorBudget,
    Latency,
    Staleness,
    Tick,
    WindowOrAuto,
)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetRef(Frozen):
    """The workload that minwatt scales, in the policy's namespace: a Deployment, a StatefulSet, or anything
    else that has a scale subresource.
    """

    api_version: str = Field(
        alias="apiVersion",
        default="apps/v1",
        max_length=253,
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9][a-z0-9]*$",
        description="Group and version of its kind.",
    )
    kind: str = Field(
        default="Deployment", max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$", description="Its kind."
    )
    name: str = Field(
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        description="Its name.",
    )


class Slo(Frozen):
    """How fast answers must be."""

    latency_s: Latency = Field(
        alias="latency",
        description="At the server: queue and compute. `percentile` percent of requests must be faster.",
    )
    percentile: float = Field(
        default=99.0, ge=50, lt=100, strict=True, description="Percent of requests that `latency` is of."
    )
    error_budget: ErrorBudget = Field(
        alias="errorBudget",
        default=0.001,
        description="Percent of requests that may be slower, refused or failed. The stricter of this and "
        "`percentile` is planned for.",
    )


OverBudgetStep = Literal["lowerClocks", "cheaperVariant", "shedLowPriority"]


class Power(Frozen):
    """What the fleet may draw."""

    budget_w: Budget | None = Field(
        alias="budget",
        default=None,
        description="Of the whole fleet; never exceeded for longer than one tick. Left out: no bound.",
    )
    when_over_budget: tuple[OverBudgetStep, ...] = Field(
        alias="whenOverBudget",
        default=(),
        json_schema_extra={"maxItems": 3},  # follows from each step once, and is said so
        description="What to give up, in this order, where the load does not fit into the budget. Left out: "
        "only the number of replicas is held down.",
    )

    @field_validator("when_over_budget")
    @classmethod
    def _each_once(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(steps)) != len(steps):
            raise ValueError("allowed: each step once")
        return steps


class Replicas(Frozen):
    """How many there may be."""

    min: int = Field(
        default=1, ge=1, le=10_000, strict=True, description="There are never fewer than so many."
    )
    max: int = Field(ge=1, le=10_000, strict=True, description="There are never more than so many.")

    @field_validator("max")
    @classmethod
    def _not_below_min(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min", 1):
            raise ValueError(f"allowed: replicas.min ({info.data['min']}) or more")
        return value


class Batching(Frozen):
    """Bounds of the operating point."""

    max_size: int = Field(
        alias="maxSize", default=16, ge=1, le=1024, strict=True, description="Texts in one batch, at most."
    )
    max_delay_s: BatchDelay = Field(
        alias="maxDelay", default=0.010, description="How long a text may wait for company, at most."
    )


VariantName = Annotated[str, Field(min_length=1, max_length=63)]


class Variants(Frozen):
    """Which precision variants of the model may answer."""

    allow: tuple[VariantName, ...] = Field(
        default=(), max_length=16, description="Their names. Left out: every variant of the profile."
    )
    min_accuracy: float | None = Field(
        alias="minAccuracy",
        default=None,
        ge=0,
        le=1,
        strict=True,
        description="The least accuracy, as the profile states it. Left out: any, and unknown too.",
    )


def _yaml_off(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


Clocks = Annotated[
    Literal["auto", "off"],
    BeforeValidator(_yaml_off),
    WithJsonSchema({"enum": ["auto", "off", False]}),
]


class Gpu(Frozen):
    """What may be done with the card."""

    clocks: Clocks = Field(
        default="off",
        description="auto: minwatt lowers and raises the card's clock. off: it leaves the card alone (YAML "
        "reads a bare off as false, which is the same).",
    )


class ScaleDown(Frozen):
    """When replicas may leave."""

    # None is `auto`: the time after which a start-up has cost less than the idle watts it saved
    window_s: WindowOrAuto = Field(
        alias="stabilizationWindow",
        default=None,
        description="How long fewer replicas must have been enough. auto: until a replica has idled away the "
        "joules of its next start.",
    )


class Behavior(Frozen):
    """How often minwatt decides, and how patiently."""

    tick_s: Tick = Field(alias="tick", default=5.0, description="How often it decides.")
    scale_down: ScaleDown = Field(alias="scaleDown", default=ScaleDown())


class Telemetry(Frozen):
    """What to do when replicas are not heard."""

    stale_after_s: Staleness = Field(
        alias="staleAfter",
        default=15.0,
        description="How long the fleet is held as it is when too few replicas report.",
    )
    fallback_replicas: int | None = Field(
        alias="fallbackReplicas",
        default=None,
        ge=1,
        le=10_000,
        strict=True,
        description="After that there are at least so many, within `power.budget`. Left out: `replicas.max`.",
    )


class Carbon(Frozen):
    """Grams of CO2 instead of joules alone. Read by `minwatt backtest --carbon`; a running fleet is not moved
    by it.
    """

    intensity_file: str = Field(
        alias="intensityFile",
        min_length=1,
        max_length=4096,
        description="CSV file with the grid's gCO2 per kWh by the hour.",
    )
