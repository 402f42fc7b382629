"""Why a request got no answer, as the client raises it.

Owns the kinds of failure and the reading of gRPC errors and their google.rpc details. Made by
`minwatt.client`; whether one is worth another attempt is `retries`' matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from minwatt.v1 import inference_pb2 as pb

_DETAILS_KEY = "grpc-status-details-bin"
_TEXT = re.compile(r"texts\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, e.g. `texts[3]`, and what is allowed there."""

    field: str
    description: str


class RequestFailed(Exception):  # noqa: N818 - read as `except minwatt.RequestFailed`
    """A request without an answer. The subclasses are the kinds worth telling apart.

    code: as gRPC names it, e.g. `INVALID_ARGUMENT`, `RESOURCE_EXHAUSTED`, `DEADLINE_EXCEEDED`.
    violations: the fields that are wrong.
    retry_after_s: when the server expects to have room; None if it didn't say.
    answered: a server said so, with details; otherwise the connection or this side's deadline did.
    attempts: how often the request was sent.
    """

    def __init__(
        self,
        code: str,
        message: str,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
        *,
        answered: bool = False,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.answered = answered
        self.attempts = 1


class InvalidRequest(RequestFailed):
    """The request is wrong, `violations` say where: it would fail again."""


class NotServed(RequestFailed):
    """There is no such model at this server, or the model has no such task."""


class Unauthenticated(RequestFailed):
    """No key, or one that the server doesn't know."""


class PermissionDenied(RequestFailed):
    """The key is known and may not do this."""


class Overloaded(RequestFailed):
    """No room for this request now. `retry_after_s` was too long for the deadline, or not said."""


class DeadlineExceeded(RequestFailed):
    """The deadline passed, or the server saw that it could not be met."""


class Unavailable(RequestFailed):
    """No replica could be reached, or those that were are going away."""


_KINDS: dict[str, type[RequestFailed]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "NOT_FOUND": NotServed,
    "UNIMPLEMENTED": NotServed,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
}


def request_failed(error: grpc.RpcError) -> RequestFailed:
    """From what a stub raised."""
    call: Any = error  # every RpcError of a stub is a call too
    details = [value for key, value in call.trailing_metadata() or () if key == _DETAILS_KEY]
    return _failed(call.code().name, call.details() or "", details[-1] if details else b"")


def item_failed(error: pb.StreamError) -> RequestFailed:
    """From a stream's reply to one request."""
    known = error.code in Code.values()
    return _failed(Code.Name(error.code) if known else "UNKNOWN", error.message, error.status_details)


def moved(failure: RequestFailed, offset: int) -> RequestFailed:
    """The same, of a request whose first text is text `offset` of a longer list."""

    def there(field: str) -> str:
        return _TEXT.sub(lambda match: f"texts[{int(match[1]) + offset}]", field)

    violations = tuple(Violation(there(v.field), v.description) for v in failure.violations)
    same = type(failure)(
        failure.code, there(failure.message), violations, failure.retry_after_s, answered=failure.answered
    )
    same.attempts = failure.attempts
    return same


def _failed(code: str, message: str, serialized: bytes) -> RequestFailed:
    violations: tuple[Violation, ...] = ()
    retry_after_s = None
    for detail in Status.FromString(serialized).details:
        bad, retry = BadRequest(), RetryInfo()
        if detail.Unpack(bad):
            violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    # A message over the limit is RESOURCE_EXHAUSTED by gRPC's custom; no wait will make room for it.
    kind = InvalidRequest if violations else _KINDS.get(code, RequestFailed)
    return kind(code, message, violations, retry_after_s, answered=bool(serialized))
