"""What a service asks of whoever answers requests: `inference`, or what stands for it in a front end.

The seam between the two services (`rpc`, `oip`) and where answers come from: this process or another.
"""

from __future__ import annotations

from typing import Protocol

from service.calls import Call
from service.inference import Arrival
from service.replies import AnyRequest, AnyResponse
from service.wire import Unreadable


class Answering(Protocol):
    """One per process."""

    def arrival(self, method: str, call: Call | None, timeout_s: float | None = None) -> Arrival:
        """A request at the door. `timeout_s`: its own beside the call's; neither: the default."""
        ...

    async def answer(self, message: AnyRequest | Unreadable, arrival: Arrival) -> AnyResponse:
        """The reply. Raises Refusal; cancelling it withdraws the request."""
        ...
