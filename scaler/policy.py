"""PowerPolicy v1alpha1: what an SRE wants of a fleet, as a file says it.

Owns the schema, its defaults and ranges, and the list of fields that nothing acts on yet. Reading is
`documents`, acting is `control`. Called by the commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from minwatt.v1.quantities import format_duration, format_power
from scaler.documents import read_document
from scaler.quantities import (
    BatchDelay,
    Budget,
    ErrorBudget,
    Latency,
    Staleness,
    Tick,
    WindowOrAuto,
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetRef(_Frozen):
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
    name: str = Field(min_length=1, max_length=253, description="Its name.")


class Metadata(_Frozen):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


# Of an object's metadata: what an API server adds.
_SERVERS_OWN = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "generateName"),
        *("deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
    }
)


class Slo(_Frozen):
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


class Power(_Frozen):
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


class Replicas(_Frozen):
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


class Batching(_Frozen):
    """Bounds of the operating point."""

    max_size: int = Field(
        alias="maxSize", default=16, ge=1, le=1024, strict=True, description="Texts in one batch, at most."
    )
    max_delay_s: BatchDelay = Field(
        alias="maxDelay", default=0.010, description="How long a text may wait for company, at most."
    )


VariantName = Annotated[str, Field(min_length=1, max_length=63)]


class Variants(_Frozen):
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


class Gpu(_Frozen):
    """What may be done with the card."""

    clocks: Clocks = Field(
        default="off",
        description="auto: minwatt lowers and raises the card's clock. off: it leaves the card alone (YAML "
        "reads a bare off as false, which is the same).",
    )


class ScaleDown(_Frozen):
    """When replicas may leave."""

    # None is `auto`: the time after which a start-up has cost less than the idle watts it saved
    window_s: WindowOrAuto = Field(
        alias="stabilizationWindow",
        default=None,
        description="How long fewer replicas must have been enough. auto: until a replica has idled away the "
        "joules of its next start.",
    )


class Behavior(_Frozen):
    """How often minwatt decides, and how patiently."""

    tick_s: Tick = Field(alias="tick", default=5.0, description="How often it decides.")
    scale_down: ScaleDown = Field(alias="scaleDown", default=ScaleDown())


class Telemetry(_Frozen):
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
        description="After that there are at least so many. Left out: `replicas.max`.",
    )


class Carbon(_Frozen):
    """Grams of CO2 instead of joules alone. Read by `minwatt backtest --carbon`; a running fleet is not moved
    by it.
    """

    intensity_file: str = Field(
        alias="intensityFile",
        min_length=1,
        max_length=4096,
        description="CSV file with the grid's gCO2 per kWh by the hour.",
    )


class Spec(_Frozen):
    """What is wanted, and of which workload."""

    target_ref: TargetRef | None = Field(alias="targetRef", default=None)
    model: str = Field(
        min_length=1,
        max_length=253,
        description="Name of the model that the fleet serves; profiles go by it.",
    )
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
    """What an SRE wants of a fleet: an SLO, within a power budget, at the fewest watts."""

    api_version: Literal["minwatt.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["PowerPolicy"]
    metadata: Metadata
    spec: Spec

    @model_validator(mode="before")
    @classmethod
    def _without_the_servers_own(cls, document: Any) -> Any:
        """So that `kubectl get powerpolicy NAME -o yaml` is a policy file."""
        if not isinstance(document, dict):
            return document
        kept = {key: value for key, value in document.items() if key != "status"}
        if isinstance(kept.get("metadata"), dict):
            own = kept["metadata"].items()
            kept["metadata"] = {key: value for key, value in own if key not in _SERVERS_OWN}
        return kept

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
