"""Why a request gets no answer: gRPC status codes with their google.rpc details.

Owns the vocabulary of refusals. Raised by `inference` and what it calls; turned into a status for unary
calls, and into a reply's `error` on streams. `reason` is the label of the counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

MAX_NAME = 80  # characters of a client's string that a reply repeats: it must fit into a trailer
MAX_VIOLATIONS = 16  # that a reply names, for the same reason
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # gRFC A6
RETRY_INFLOW_S = 0.1
DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "minwatt"  # of ErrorInfo
REASONS = (
    "queue_full",
    "slo",  # the wait would be too long
    "shed",  # of the class `batch`, which is refused first
    "quota",  # the tenant's own
    "identity",  # no valid key, or not the role
    "deadline",
    "draining",
    "starting",
    "invalid",
    "cancelled",
    "failed",
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, e.g. `texts[3]`, and what is allowed there."""

    field: str
    description: str


class Refusal(Exception):  # noqa: N818 - the client's request is at fault, or the moment; not this code
    """A request that ends without an answer."""

    def __init__(
        self, code: grpc.StatusCode, reason: str, message: str, details: Sequence[Message] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = tuple(details)

    def status(self) -> Status:
        """The google.rpc.Status with its details."""
        packed = []
        for detail in self.details:
            packed.append(Any())
            packed[-1].Pack(detail)
        number: int = self.code.value[0]
        return Status(code=number, message=self.message, details=packed)

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The details; and for a client whose gRPC retries by itself, when it should."""
        details: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, self.status().SerializeToString()),)
        if self.code is grpc.StatusCode.UNAVAILABLE:
            retry_ms = [d.retry_delay.ToMilliseconds() for d in self.details if isinstance(d, RetryInfo)]
            details += tuple((PUSHBACK_KEY, str(delay_ms)) for delay_ms in retry_ms)
        return details


def invalid(violations: Iterable[Violation]) -> Refusal:
    """INVALID_ARGUMENT that names the first fields, at least one; the message is the very first."""
    found = list(islice(violations, MAX_VIOLATIONS + 1))
    named = found[:MAX_VIOLATIONS]
    fields = [BadRequest.FieldViolation(field=v.field, description=v.description) for v in named]
    at_least = "at least " if len(found) > len(named) else ""
    more = f" (and {at_least}{len(found) - 1} more)" if len(found) > 1 else ""
    message = f"{found[0].field}: {found[0].description}{more}"
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "invalid", message, [BadRequest(field_violations=fields)]
    )


def unknown_model(asked: str, available: Sequence[str]) -> Refusal:
    """NOT_FOUND that lists the models."""
    listed = f"available: {', '.join(available)}"
    asked = shortened(asked)
    info = ResourceInfo(resource_type="model", resource_name=asked, description=listed)
    return Refusal(
        grpc.StatusCode.NOT_FOUND, "invalid", f"model {asked!r} is not served here; {listed}", [info]
    )


def shortened(name: str) -> str:
    """A client's string as far as a reply repeats it."""
    return name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…"


def no_such_task(model: str, task: str, tasks: Sequence[str]) -> Refusal:
    """UNIMPLEMENTED: the model has no head for this call."""
    message = f"model {model!r} has no {task} task; it has: {', '.join(tasks)}"
    info = ResourceInfo(resource_type="task", resource_name=task, owner=model, description=message)
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, "invalid", message, [info])


def queue_full(message: str, retry_after_s: float) -> Refusal:
    """RESOURCE_EXHAUSTED that says when to retry."""
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full", message, [_retry(retry_after_s)])


def too_slow(message: str, retry_after_s: float) -> Refusal:
    """RESOURCE_EXHAUSTED: the answer would come after the SLO."""
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "slo", message, [_retry(retry_after_s)])


def shed(message: str, retry_after_s: float) -> Refusal:
    """RESOURCE_EXHAUSTED for a request of the class `batch`: time or watts are short."""
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "shed", message, [_retry(retry_after_s)])


def quota_exceeded(tenant: str, quota: str, allowed: float, retry_after_s: float) -> Refusal:
    """RESOURCE_EXHAUSTED that names the tenant's quota: no other replica has more of it to give."""
    description = f"{quota}: {allowed:g} allowed"
    failure = QuotaFailure(
        violations=[QuotaFailure.Violation(subject=f"tenant:{tenant}", description=description)]
    )
    message = f"tenant {tenant!r} is at its quota of {quota}: {allowed:g}"
    details = [_retry(retry_after_s), failure]
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", message, details)


def unauthenticated(message: str) -> Refusal:
    """UNAUTHENTICATED: no key, or none that is known."""
    info = ErrorInfo(reason="API_KEY_INVALID", domain=DOMAIN)
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, "identity", message, [info])


def permission_denied(tenant: str, role: str) -> Refusal:
    """PERMISSION_DENIED: the tenant is known, and may not do this."""
    info = ErrorInfo(reason="ROLE_MISSING", domain=DOMAIN, metadata={"tenant": tenant, "role": role})
    message = f"tenant {tenant!r} has not the role {role!r}"
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, "identity", message, [info])


def too_large(size_bytes: int, limit_bytes: int) -> Refusal:
    """RESOURCE_EXHAUSTED as gRPC has it for messages over the limit; retrying won't help: no RetryInfo."""
    description = (
        f"the message has {size_bytes} bytes, the limit is {limit_bytes}; send fewer texts a request"
    )
    detail = BadRequest(
        field_violations=[BadRequest.FieldViolation(field="(message)", description=description)]
    )
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "invalid", description, [detail])


def deadline_exceeded(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline", message)


def unavailable(reason: str, message: str, retry_after_s: float) -> Refusal:
    """UNAVAILABLE: another replica, or this one later, will answer. `reason`: draining, starting."""
    return Refusal(grpc.StatusCode.UNAVAILABLE, reason, message, [_retry(retry_after_s)])


def unimplemented(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, "invalid", message)


def not_found(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, "invalid", message)


def too_much_at_once(limit_bytes: int) -> Refusal:
    """RESOURCE_EXHAUSTED while clients together have sent too much of messages that are not complete."""
    message = f"requests that have come in part hold {limit_bytes} bytes already"
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full", message, [_retry(RETRY_INFLOW_S)])


def internal(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.INTERNAL, "failed", message)


def _retry(after_s: float) -> RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(round(after_s * 1e9))
    return RetryInfo(retry_delay=delay)
