"""The node's policy: who may ask, for how much and for how long. A YAML file, checked at start and on SIGHUP.

    apiVersion: minwatt.dev/v1alpha1
    kind: NodePolicy
    allow: {uids: [65532], gids: []}     # of the peer's process; gids: its group or one of its others
    maxTtl: 30s
    default:                             # of each card
      may: [smClock, powerLimit]
      smClock: {minMHz: 600, maxMHz: 1980}
      powerLimit: {min: 200W, max: 400W}
      shared: false                      # true: several may hold leases; watts are told as shares
      bystanders: protect                # ignore: a card is set although others compute on it without a lease
    cards:                               # what a card has otherwise, by UUID
      GPU-5fd4f087-86f3-7a43-b711-4771313afc50: {shared: true}

Owns the schema and the wording of its errors. Called by `cli` and `server`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from minwatt.v1 import strict_yaml
from minwatt.v1.errors import UsageError, one_line
from minwatt.v1.node_agent import LONGEST_TTL_S
from minwatt.v1.quantities import in_range, parse_duration_s, parse_power_w

Uid = Annotated[int, Field(ge=0, lt=2**32 - 1, strict=True)]
Mhz = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Watts = Annotated[float, in_range(parse_power_w, 1.0, 100_000.0, "1W to 100kW")]
Ttl = Annotated[float, in_range(parse_duration_s, 1.0, LONGEST_TTL_S, "1s to 1h")]
Uuid = Annotated[str, Field(pattern=r"^GPU-[A-Za-z0-9-]{1,90}$")]
API_VERSION = "minwatt.dev/v1alpha1"


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=AliasGenerator(validation_alias=to_camel)
    )


class Allow(_Part):
    uids: tuple[Uid, ...] = ()
    gids: tuple[Uid, ...] = ()


class ClockRange(_Part):
    min_mhz: Annotated[Mhz | None, Field(validation_alias="minMHz")] = None
    max_mhz: Annotated[Mhz | None, Field(validation_alias="maxMHz")] = None

    @model_validator(mode="after")
    def _ordered(self) -> ClockRange:
        if self.min_mhz is not None and self.max_mhz is not None and self.min_mhz > self.max_mhz:
            raise ValueError(f"minMHz = {self.min_mhz} exceeds maxMHz = {self.max_mhz}")
        return self


class LimitRange(_Part):
    min_w: Annotated[Watts | None, Field(validation_alias="min")] = None
    max_w: Annotated[Watts | None, Field(validation_alias="max")] = None

    @model_validator(mode="after")
    def _ordered(self) -> LimitRange:
        if self.min_w is not None and self.max_w is not None and self.min_w > self.max_w:
            raise ValueError(f"min = {self.min_w:g}W exceeds max = {self.max_w:g}W")
        return self


class CardPolicy(_Part):
    may: frozenset[Literal["smClock", "powerLimit"]] = frozenset({"smClock", "powerLimit"})
    sm_clock: ClockRange = ClockRange()
    power_limit: LimitRange = LimitRange()
    shared: bool = False
    bystanders: Literal["protect", "ignore"] = "protect"

    def allows_clock(self, clock_mhz: int) -> bool:
        low, high = self.sm_clock.min_mhz, self.sm_clock.max_mhz
        return (low is None or low <= clock_mhz) and (high is None or clock_mhz <= high)


class NodePolicy(_Part):
    api_version: Literal["minwatt.dev/v1alpha1"]
    kind: Literal["NodePolicy"]
    allow: Allow = Allow()
    max_ttl_s: Annotated[Ttl, Field(validation_alias="maxTtl")] = 60.0
    default: CardPolicy = CardPolicy()
    cards: dict[Uuid, CardPolicy] = Field(default_factory=dict)

    def of_card(self, uuid: str) -> CardPolicy:
        """The default, with what the card has otherwise."""
        own = self.cards.get(uuid)
        if own is None:
            return self.default
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def own_user_only() -> NodePolicy:
    """Without a file: root and the agent's own user may ask, within what the cards can."""
    uids = sorted({0, os.getuid()})
    return NodePolicy.model_validate(
        {"apiVersion": API_VERSION, "kind": "NodePolicy", "allow": {"uids": uids}}
    )


def read_policy(path: Path) -> NodePolicy:
    """Raises UsageError: one line that names the file, the field, the value and what is allowed."""
    try:
        document: Any = strict_yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not YAML
        raise UsageError(f"{path}: {error}") from error
    try:
        return NodePolicy.model_validate(document)
    except ValidationError as error:
        raise one_line(error, str(path)) from error
