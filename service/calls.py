"""What a service is to the front end, and what a call is to a service: bytes in, bytes out.

The seam between the transport (`door` and what stands behind it) and the services it carries (`rpc` and
others). Whatever speaks HTTP/2 on one side and whatever parses messages on the other meets here only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Call(Protocol):
    """One RPC, as the front end received it."""

    @property
    def timeout_s(self) -> float | None:
        """What is left of the client's deadline now; None where it set none."""

    def metadata(self, key: str) -> str | None:
        """The first value of a lower-case key; None where it is absent."""

    @property
    def peer_identity(self) -> str | None:
        """Of the client's verified certificate (mTLS): its SAN's URI or DNS name, else its CN; else None."""


class StreamCall(Call, Protocol):
    """One RPC of which both sides send any number of messages."""

    async def read(self) -> bytes | None:
        """The next message; None when the client has sent its last, or the server is closing."""

    async def write(self, message: bytes) -> None:
        """Waits while the client takes nothing. Raises CancelledError when it has left."""


Unary = Callable[[bytes, Call], Awaitable[bytes]]
"""Raises statuses.Refusal; is cancelled when the client leaves or its deadline passes."""

Stream = Callable[[StreamCall], Awaitable[None]]
"""Raises statuses.Refusal; is cancelled when the client leaves or its deadline passes."""


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service by its full name; its methods by their short ones."""

    name: str
    unary: Mapping[str, Unary] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
