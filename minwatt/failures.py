"""Why a request got no answer, as the client raises it.

Owns the reading of gRPC errors and their google.rpc details. Made by `minwatt.client`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, e.g. `texts[3]`, and what is allowed there."""

    field: str
    description: str


class RequestFailed(Exception):  # noqa: N818 - read as `except minwatt.RequestFailed`
    """A request without an answer.

    code: as gRPC names it, e.g. `INVALID_ARGUMENT`, `RESOURCE_EXHAUSTED`, `DEADLINE_EXCEEDED`.
    violations: the fields that are wrong.
    retry_after_s: when the server expects to have room; None if it didn't say.
    """

    def __init__(
        self,
        code: str,
        message: str,
        violations: tuple[Violation, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after_s = retry_after_s


def request_failed(error: grpc.RpcError) -> RequestFailed:
    """From what a stub raised."""
    call: Any = error  # every RpcError of a stub is a call too
    violations: tuple[Violation, ...] = ()
    retry_after_s = None
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            violations, retry_after_s = _details(value)
    return RequestFailed(call.code().name, call.details() or "", violations, retry_after_s)


def _details(serialized: bytes) -> tuple[tuple[Violation, ...], float | None]:
    violations: tuple[Violation, ...] = ()
    retry_after_s = None
    for detail in Status.FromString(serialized).details:
        bad, retry = BadRequest(), RetryInfo()
        if detail.Unpack(bad):
            violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return violations, retry_after_s
