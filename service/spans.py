"""What a traced request is to those it passes on its way.

Implemented by `tracing`, and by nothing where traces are off: then every `Tracer` and `RequestSpan` is None.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from service.calls import Call

if TYPE_CHECKING:
    from service.request import ComputedBatch, Cost


class RequestSpan(Protocol):
    """One request's trace. Times are of the server's monotonic clock; no text of the client's goes in."""

    def stage(self, name: str, started_s: float, ended_s: float) -> None:
        """A part of its way that is over."""
        ...

    def end(self, ended_s: float, status: str, texts: int, cost: Cost) -> None:
        """Once. `status`: of gRPC, by name."""
        ...


class Tracer(Protocol):
    def request(self, method: str, started_s: float, call: Call | None) -> RequestSpan | None:
        """A request at the door, child of the trace that the call names; None where it isn't sampled."""
        ...

    def batch(self, spans: Collection[RequestSpan | None], texts: int, computed: ComputedBatch) -> None:
        """A computed batch, by the spans of its requests that are traced."""
        ...

    def close(self) -> None:
        """Sends what is pending, for a bounded time."""
        ...
