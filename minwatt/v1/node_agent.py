"""What a replica and the node agent say to one another: a JSON object a line, one reply a request, in order.

The schema of both sides and nothing else; docs/node-agent.md is written from it. Called by `nodeagent` (which
parses requests) and `service.node_agent` (which parses replies).

Strict: an unknown field, a number out of range, a field that is there twice are refused.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from minwatt.v1.errors import UsageError, one_line

VERSION: Final = 1
SOCKET = "/run/minwatt/node-agent.sock"
MOST_REQUEST_BYTES = 4096  # with the newline
MOST_REPLY_BYTES = 256 * 1024  # the cards of a node, with their slices
LONGEST_TTL_S = 3600.0

CardId = Annotated[str, Field(pattern=r"^(GPU|MIG)-[A-Za-z0-9/-]{1,90}$")]
ClockMhz = Annotated[int, Field(ge=1, le=100_000)]
LimitW = Annotated[float, Field(gt=0, le=100_000)]
TtlS = Annotated[float, Field(ge=1, le=LONGEST_TTL_S)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Request(_Message):
    v: Literal[1] = VERSION


class Hello(_Request):
    """Which cards are there, who am I to the agent, what may I ask for?"""

    op: Literal["hello"] = "hello"


class LeaseRequest(_Request):
    """Holds a card at a clock, a power limit, or both, for ttl_s. The connection's lease before it ends."""

    op: Literal["lease"] = "lease"
    card: CardId
    sm_clock_mhz: ClockMhz | None = None
    power_limit_w: LimitW | None = None
    ttl_s: TtlS

    @model_validator(mode="after")
    def _asks_for_something(self) -> LeaseRequest:
        if self.sm_clock_mhz is None and self.power_limit_w is None:
            raise ValueError("sm_clock_mhz and power_limit_w: at least one is needed")
        return self


class RenewRequest(_Request):
    """This connection's lease of the card lasts for ttl_s from now."""

    op: Literal["renew"] = "renew"
    card: CardId
    ttl_s: TtlS


class ReleaseRequest(_Request):
    op: Literal["release"] = "release"
    card: CardId


class ReadRequest(_Request):
    """Joules and watts of the card, or of the asker's share of it where it is shared."""

    op: Literal["read"] = "read"
    card: CardId


Request = Annotated[
    Hello | LeaseRequest | RenewRequest | ReleaseRequest | ReadRequest, Field(discriminator="op")
]


class CardInfo(_Message):
    """One card. slices: UUIDs of the instances that MIG splits it into.

    shared: watts are told as shares, and several may hold leases.
    sm_clock_mhz, power_limit_w: what a lease may ask for, lowest and highest; None: it can't be set.
    """

    card: str
    name: str
    shared: bool
    slices: tuple[str, ...] = ()
    sm_clock_mhz: tuple[int, int] | None = None
    power_limit_w: tuple[float, float] | None = None


class Welcome(_Message):
    """you: who holds your leases: `pod:UID`, `pid:PID`, or `uid:UID` where no more can be known."""

    re: Literal["hello"] = "hello"
    v: int = VERSION
    you: str
    longest_ttl_s: float
    cards: tuple[CardInfo, ...] = ()


class LeaseReply(_Message):
    """Of `lease` and `renew`.

    granted_*: what was asked for, within what is allowed. in_force_*: of the card now; None: its own default.
    why: why that is not what was granted; empty where it is.
    """

    re: Literal["lease"] = "lease"
    granted_sm_clock_mhz: int | None = None
    granted_power_limit_w: float | None = None
    in_force_sm_clock_mhz: int | None = None
    in_force_power_limit_w: float | None = None
    ttl_s: float
    why: str = ""


class ReleaseReply(_Message):
    """held: whether there was a lease."""

    re: Literal["release"] = "release"
    held: bool


class ReadReply(_Message):
    """unknown: why there are no joules and watts; else it is empty.

    source: `nvml`, or `nvml-estimate` for a share. device: what the joules are of. age_s: since they were
    read. epoch: joules count on from reply to reply while it stays the same.
    """

    re: Literal["read"] = "read"
    source: str
    device: str
    epoch: str
    age_s: float
    joules_total: Annotated[float, Field(ge=0)] | None = None
    watts: Annotated[float, Field(ge=0)] | None = None
    unknown: str = ""
    utilization: float | None = None
    clock_hz: float | None = None
    temperature_c: float | None = None
    power_limit_w: float | None = None


Code = Literal["invalid", "denied", "busy", "no_card", "no_lease", "not_allowed", "refused", "unavailable"]


class Failure(_Message):
    """invalid: the line. denied: the caller. busy: too many connections. no_card, no_lease: there is none.

    not_allowed: the node's policy. refused: the driver, for good. unavailable: the driver, this time.
    """

    re: Literal["error"] = "error"
    code: Code
    message: str


Reply = Annotated[Welcome | LeaseReply | ReleaseReply | ReadReply | Failure, Field(discriminator="re")]

_Schema = TypeVar("_Schema")

_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


def parse_request(line: bytes) -> Request:
    """Raises UsageError: one line that names field, value and what is allowed."""
    return _parse(_REQUEST, line)


def parse_reply(line: bytes) -> Reply:
    """Raises UsageError."""
    return _parse(_REPLY, line)


def to_line(message: _Message) -> bytes:
    return message.model_dump_json(exclude_none=True).encode() + b"\n"


def _parse(schema: TypeAdapter[_Schema], line: bytes) -> _Schema:
    try:
        document = json.loads(line, object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, _NotOursError) else "not one JSON object in UTF-8"
        raise UsageError(f"line: {said}") from error
    if not isinstance(document, dict):
        raise UsageError("line: not one JSON object in UTF-8")
    if document.get("v", VERSION) != VERSION:
        raise UsageError(f"line: v = {str(document['v'])[:20]!r}: allowed: {VERSION}")
    try:
        # From JSON, where strict takes a list for a tuple.
        return schema.validate_json(json.dumps(document))
    except ValidationError as error:
        raise one_line(error, "line") from error


class _NotOursError(ValueError):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _NotOursError("a field is there twice")
    return fields


def _no_number(name: str) -> Any:
    raise _NotOursError(f"{name} is not a number")
