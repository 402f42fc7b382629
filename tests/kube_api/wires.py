"""What is on its way between two sockets of one event loop: sent by one, not yet received by the other.

The kernel delivers it when it gets round to it, which on a busy machine takes milliseconds. Owns the counts;
that time stands still meanwhile is `jumping_loop`'s matter.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Mapping
from typing import Any

Fds = Mapping[int, int]
"""Open files that the loop waits for, and for what of each."""


class Wires:
    """Of all connections over TCP that have at least one end here."""

    def __init__(self) -> None:
        self._ends: dict[tuple[Any, Any], _End] = {}  # by own address and the other's
        self._listening: set[int] = set()

    def listens(self, sock: socket.socket) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            self._listening.add(sock.getsockname()[1])

    def listens_no_more(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0 and sock.family in (socket.AF_INET, socket.AF_INET6):
            self._listening.discard(sock.getsockname()[1])

    def counted(self, sock: socket.socket) -> socket.socket:
        """The same connection in a socket that is counted; `sock` itself is used no more."""
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return sock
        try:
            peer = sock.getpeername()
        except OSError:  # gone already
            return sock
        key = sock.getsockname(), peer
        end = self._ends[key] = _End(self, key, sock)
        return end

    def closed(self, end: _End) -> None:
        other = self._other(end)
        if other is None or other.closed:
            self._ends.pop(end.key, None)
            if other is not None:
                self._ends.pop(other.key, None)

    def on_the_way(self, awaited: Fds) -> bool:
        """A connection that is being made counts too. What nobody reads for now is where it should be."""
        ends = list(self._ends.values())
        here = {end.fd for end in ends if not end.closed}
        if any(events & selectors.EVENT_WRITE and fd not in here for fd, events in awaited.items()):
            return True
        return any(self._sent_to_nobody_yet(end) for end in ends) or any(
            self._missed(end)
            for end in ends
            if not end.closed and awaited.get(end.fd, 0) & selectors.EVENT_READ
        )

    def _missed(self, end: _End) -> bool:
        other = self._other(end)
        if other is None or end.heard_the_end:
            return False
        return end.received_bytes < other.sent_bytes or other.said_the_end

    def _sent_to_nobody_yet(self, end: _End) -> bool:
        """To one of this loop that has not accepted it yet."""
        other = self._other(end)
        if other is not None:
            end.met = other.met = True
        return not (end.met or end.closed) and end.key[1][1] in self._listening

    def _other(self, end: _End) -> _End | None:
        own, peer = end.key
        return self._ends.get((peer, own))


class _End(socket.socket):
    def __init__(self, wires: Wires, key: tuple[Any, Any], sock: socket.socket) -> None:
        family, kind, protocol = sock.family, sock.type, sock.proto
        super().__init__(family, kind, protocol, fileno=sock.detach())
        self.setblocking(False)
        self.key = key
        self.fd = self.fileno()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.said_the_end = False
        self.heard_the_end = False
        self.closed = False
        self.met = False
        self._wires = wires

    def send(self, *args: Any) -> int:
        size = super().send(*args)
        self.sent_bytes += size
        return size

    def sendmsg(self, *args: Any) -> int:
        size = super().sendmsg(*args)
        self.sent_bytes += size
        return size

    def recv(self, *args: Any) -> bytes:
        try:
            data = super().recv(*args)
        except BlockingIOError:
            raise
        except OSError:
            self.heard_the_end = True
            raise
        self._received(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        try:
            size = super().recv_into(*args)
        except BlockingIOError:
            raise
        except OSError:
            self.heard_the_end = True
            raise
        self._received(size)
        return size

    def shutdown(self, how: int) -> None:
        self.said_the_end = self.said_the_end or how in (socket.SHUT_WR, socket.SHUT_RDWR)
        super().shutdown(how)

    def close(self) -> None:
        if not self.closed:
            self.said_the_end = self.closed = True
            self._wires.closed(self)
        super().close()

    def _received(self, size_bytes: int) -> None:
        self.received_bytes += size_bytes
        self.heard_the_end = self.heard_the_end or size_bytes == 0
