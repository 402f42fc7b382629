"""What a PowerPolicy's `status` holds: the schema that the CRD carries and that `status` fills in.

Values only. Quantities are spelled as in `spec` (`31ms`, `210W`), so that people read both alike and no float
is compared. Times are RFC 3339 in UTC. What is not known is left out. Made by `status`, which also reads it
back, to keep what must not change.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from scaler.decision import Action

MESSAGE_CHARS = 1024
REASONS = 16
VALUES = 16

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Joules = Annotated[int, Field(ge=0, le=2**53)]
Generation = Annotated[int, Field(ge=0, le=2**53)]
Short = Annotated[str, Field(max_length=64)]
Name = Annotated[str, Field(max_length=253)]
Text = Annotated[str, Field(max_length=MESSAGE_CHARS)]
Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]


class _Part(BaseModel):
    # An older controller's or a hand's fields are passed over: status is always written anew as a whole.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Condition(_Part):
    """One aspect of the policy, as Kubernetes words it."""

    type: Annotated[
        str,
        Field(
            max_length=64,
            pattern=r"^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
            description="Ready, Stale, OverBudget, Infeasible or Paused.",
        ),
    ]
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Annotated[
        str,
        Field(
            max_length=128,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="Why, in one word for machines.",
        ),
    ]
    message: Text = Field(description="Why, for people.")
    observed_generation: Generation = Field(description="metadata.generation that this was said of.")
    last_transition_time: Time = Field(description="Since when the condition has this status.")


class ReplicaStatus(_Part):
    """Replicas of the target."""

    desired: Count | None = Field(default=None, description="As many as minwatt wants.")
    current: Count | None = Field(default=None, description="As many as the target is scaled to.")
    ready: Count | None = Field(default=None, description="Answering.")
    starting: Count | None = Field(default=None, description="Scheduled, not answering yet.")
    pending: Count | None = Field(default=None, description="Not scheduled yet.")
    unschedulable: Count | None = Field(
        default=None, description="Of the pending: those that no node has room for."
    )
    terminating: Count | None = Field(default=None, description="Finishing what they have.")


class LatencyStatus(_Part):
    """At the server: queue and compute, over the last seconds."""

    p50: Short | None = Field(default=None, description="Half of the requests were faster.")
    p99: Short | None = Field(default=None, description="99% of the requests were faster.")


class PowerStatus(_Part):
    """Of the whole fleet."""

    drawn: Short | None = Field(default=None, description="Watts now. Left out where no meter knows.")
    source: Short = Field(
        default="unknown", description="Kinds of meters that say so: nvml, rapl, modelled or replayed."
    )
    budget: Short | None = Field(default=None, description="spec.power.budget of the policy in force.")
    joules: Joules | None = Field(
        default=None,
        description="Joules since this controller began to look, replicas that are gone included.",
    )


class TrafficStatus(_Part):
    """Requests a second of the whole fleet."""

    arrivals: Short | None = Field(default=None, description="Came at the door, refused ones too.")
    forecast: Short | None = Field(default=None, description="What is planned for.")


class PointStatus(_Part):
    """What replicas were told to run at."""

    version: Count = Field(description="Grows with each change.")
    max_size: Count = Field(description="Texts in one batch, at most.")
    max_tokens: Count = Field(description="Padded tokens in one batch, at most.")
    max_delay: Short = Field(description="How long a text may wait for company, at most.")
    variant: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Precision variant."
    )
    sm_clock: Short | None = Field(default=None, description="The card's clock. Left out: left alone.")
    sheds_low_priority: bool = Field(
        default=False,
        description="Whether requests of low priority are refused to stay within the budget.",
    )


class ReasonStatus(_Part):
    """One rule that had a say in a decision."""

    code: Short = Field(description="Which rule, for machines.")
    message: Text = Field(description="What it found, for people.")
    values: Annotated[dict[str, Annotated[str, Field(max_length=128)]], Field(max_length=VALUES)] = Field(
        default_factory=dict, description="Its numbers, in SI units."
    )


class PredictionStatus(_Part):
    """What the desired replicas are predicted to do."""

    p99: Short | None = Field(default=None, description="Left out where the queue would grow without end.")
    watts: Short | None = Field(default=None, description="Of the fleet.")
    basis: Literal["measured", "profile"] = Field(
        default="profile", description="Whether the fleet's own meters corrected it."
    )


class DecisionStatus(_Part):
    """Why the fleet has the size it has."""

    since: Time = Field(description="Since when it has been decided so.")
    action: Action = Field(description="What is done about the replicas and the operating point.")
    current: Count = Field(description="Replicas that there were.")
    desired: Count = Field(description="Replicas that there shall be.")
    message: Text = Field(description="The decision and its reasons in one line.")
    predicted: PredictionStatus | None = None
    reasons: Annotated[tuple[ReasonStatus, ...], Field(max_length=REASONS)] = Field(
        default=(), description="Every rule that had a say, the most telling first."
    )


class ScalingStatus(_Part):
    """The last time the target was scaled, by minwatt or by another."""

    at: Time = Field(description="When it was seen.")
    current: Count = Field(description="Replicas that it was scaled to before.")
    desired: Count = Field(description="Replicas that it was scaled to then.")
    message: Text = Field(description="The decision behind it, or the one that it went against.")


class FenceStatus(_Part):
    """Which controller wrote this."""

    holder: Name = Field(description="Holder of the controllers' Lease.")
    transitions: Count = Field(description="How often the Lease had changed hands.")


class ColumnsStatus(_Part):
    """What `kubectl get` shows, ready to be read."""

    p99: Short | None = Field(default=None, description="Of the last seconds.")
    watts: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="Drawn and their source, of the budget."
    )
    replicas: Short | None = Field(default=None, description="Ready, of the desired ones.")
    point: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="Operating point: texts in a batch, delay, variant, clock."
    )


class LastGood(_Part):
    """The newest policy that could be used. A controller that starts goes on with it while the newest can't
    be."""

    generation: Generation = Field(description="Its metadata.generation.")
    replicas: Literal["external"] | None = Field(
        default=None, description="Its annotation minwatt.dev/replicas."
    )
    profile: Name | None = Field(default=None, description="Its annotation minwatt.dev/profile.")
    # What it may hold is `spec`'s own schema: `crd` puts it there.
    spec: Annotated[dict[str, Any], WithJsonSchema({"type": "object", "properties": {}})] = Field(
        description="Its spec, as it was then."
    )


class Status(_Part):
    """What minwatt sees and does. Written by the controller alone."""

    observed_generation: Generation = Field(description="metadata.generation that the controller has read.")
    generation_in_force: Generation | None = Field(
        default=None,
        description="metadata.generation that the fleet is run by: an earlier one while the newest can't be "
        "used. Left out: none is.",
    )
    last_good: LastGood | None = None
    updated: Time = Field(description="When this was written.")
    replicas: ReplicaStatus = ReplicaStatus()
    latency: LatencyStatus | None = None
    power: PowerStatus | None = None
    traffic: TrafficStatus | None = None
    operating_point: PointStatus | None = Field(default=None)
    decision: DecisionStatus | None = None
    last_scaling: ScalingStatus | None = Field(default=None)
    fence: FenceStatus | None = None
    columns: ColumnsStatus = ColumnsStatus()
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(), description="Ready, Stale, OverBudget, Infeasible and Paused."
    )
