"""PowerPolicy v1alpha1: what an SRE wants of a fleet, as a file says it.

Owns the document as a whole, what its sections ask of one another, and the list of fields that nothing acts
on yet; the sections are `policy_sections`', reading is `documents`', acting `control`'s. Called by commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from minwatt.v1.quantities import format_duration, format_power
from scaler.documents import read_document
from scaler.policy_sections import (
    Batching,
    Behavior,
    Carbon,
    Frozen,
    Gpu,
    Power,
    Replicas,
    Slo,
    TargetRef,
    Telemetry,
    Variants,
)


class Metadata(Frozen):
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


class Spec(Frozen):
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


class Policy(Frozen):
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
        down = "the energy break-even time" if window is None else format_duration(window)
        stale = format_duration(spec.telemetry.stale_after_s)
        lines = [
            f"PowerPolicy {self.metadata.name}: model {spec.model}",
            f"  slo       p{spec.slo.percentile:g} ≤ {format_duration(spec.slo.latency_s)} at the server, "
            f"{spec.slo.error_budget * 100:.4g}% of requests may miss it",
            f"  power     {_power(spec.power)}",
            f"  replicas  {spec.replicas.min} to {spec.replicas.max}",
            f"  batching  up to {spec.batching.max_size} texts, {format_duration(spec.batching.max_delay_s)}",
            f"  variants  {_variants(spec.variants)}",
            f"  clocks    {_CLOCKS[spec.gpu.clocks]}",
            f"  tick      {format_duration(spec.behavior.tick_s)}, scale-down after {down}",
            f"  blind     hold; after {stale} at least {spec.fallback_replicas} replicas",
        ]
        return "\n".join(lines + [f"  not acted on: {sentence}" for sentence in self.not_acted_on()])


_CLOCKS = {
    "auto": "auto: minwatt lowers and raises the card's clock",
    "off": "off: minwatt leaves the card's clock alone",
}


def _power(power: Power) -> str:
    """What there is to give up has a meaning only with a budget."""
    if power.budget_w is None:
        return "no budget for the fleet"
    steps = ", ".join(power.when_over_budget) or "only the number of replicas is held down"
    return f"at most {format_power(power.budget_w)} for the fleet; where the load does not fit: {steps}"


def _variants(variants: Variants) -> str:
    allowed = ", ".join(variants.allow) or "every one of the profile"
    if variants.min_accuracy is None:
        return f"{allowed}; of any accuracy"
    return f"{allowed}; of accuracy {variants.min_accuracy} or more"


def load_policy(path: Path) -> Policy:
    """Raises UsageError: one line with file, field, value and what is allowed."""
    return read_document(path, Policy)
