"""What goes through a channel's socket: rare, or large.

Towards the front ends, pickles: they trust the engine process, which loads the models. Towards the engine
process, a line of JSON and bytes: what speaks with strangers gets no code run in it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from minwatt.v1.model_dir import ModelDirectory
from service.logs import REQUEST_ID_KEY
from service.statuses import Refusal
from service.tenants import Directory

CONTEXT_KEYS = ("traceparent", "tracestate", REQUEST_ID_KEY)  # what traces and logs read of a call
CREDENTIAL_KEYS = ("authorization", "x-api-key")
ForwardedKind = Literal["call", "ask", "unreadable"]
CODES = {code.value[0]: code for code in StatusCode}


@dataclass(frozen=True, slots=True)
class ToldModel:
    """A resident model as front ends need it; `number` is never given twice."""

    number: int
    directory: ModelDirectory
    variant: str
    tokenizer: str  # its digest


@dataclass(frozen=True, slots=True)
class World:
    """All that a front end goes by, as it is now. Versions grow."""

    version: int
    listening: bool
    serving: bool  # what grpc.health.v1 says
    models: tuple[ToldModel, ...]  # the first is the default
    tokenizers: Mapping[str, str]  # by digest; those that this front end has not been told yet
    tenants: Directory
    methods: Mapping[str, tuple[str, ...]]  # unary ones, by service
    provider: str
    cache_secret: bytes | None  # None: nothing is cached


@dataclass(frozen=True, slots=True)
class Close:
    """No new connections; what is in flight has `grace_s`. Then the front end ends."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Replied:
    """To what was forwarded: a serialized message, or why there is none."""

    id: int
    message: bytes | None
    refusal: tuple[str, bytes] = ("", b"")  # reason and google.rpc.Status


@dataclass(frozen=True, slots=True)
class LargeAnswer:
    """A record that a ring does not take."""

    record: bytes


ToFront = World | Close | Replied | LargeAnswer


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A call that the engine process is to answer, as it came.

    `kind`: `call`, a method's message; `ask`, a request of minwatt.v1; `unreadable`, the status of what was
    none. Times are of the machine's monotonic clock.
    """

    id: int
    kind: ForwardedKind
    method: str  # `/service/method` of a `call`, else the method's name
    message_type: str = ""  # of an `ask`
    reason: str = ""  # of an `unreadable`
    arrived_s: float = 0.0
    deadline_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    peer_identity: str | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Its client has."""

    id: int


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of the front end since this engine process was there."""

    cpu_s: float


ToEngine = Forwarded | Left | Spent
_TO_ENGINE = {kind.__name__: kind for kind in (Forwarded, Left, Spent)}


def for_front(message: ToFront) -> bytes:
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def in_front(data: bytes) -> ToFront:
    message: ToFront = pickle.loads(data)  # noqa: S301 - of our own engine process
    return message


def for_engine(message: ToEngine, body: bytes = b"") -> tuple[bytes, bytes]:
    """To be sent as one."""
    return json.dumps([type(message).__name__, asdict(message)]).encode() + b"\n", body


def in_engine(data: bytes) -> tuple[ToEngine, bytes]:
    """Raises ValueError, TypeError, KeyError for what is no message."""
    head, _, body = data.partition(b"\n")
    name, fields = json.loads(head)
    message: ToEngine = _TO_ENGINE[name](**fields)
    return message, body


def refusal_of(reason: str, status: bytes) -> Refusal:
    """The Refusal of which another process has sent reason and status."""
    told = Status.FromString(status)
    return Refusal(CODES[told.code], reason, told.message, [_detail(one) for one in told.details])


def _detail(packed: Any) -> Message:
    detail: Message = GetMessageClass(Default().FindMessageTypeByName(packed.TypeName()))()
    packed.Unpack(detail)
    return detail
