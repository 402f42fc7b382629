"""One TCP port that several replica processes share.

Owns reserving it. The kernel gives each new connection to one of the processes that listen on it with
SO_REUSEPORT.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType

from minwatt.v1.errors import UsageError


@dataclass(frozen=True, slots=True)
class SharedPort:
    """Bound and never listening: it holds the number between replicas, and gets no connections."""

    host: str
    number: int
    _holder: socket.socket

    @classmethod
    def reserve(cls, host: str, port: int) -> SharedPort:
        """Port 0 is chosen by the OS. Raises UsageError when anything else has the port already.

        Tried without SO_REUSEPORT first: with it, replicas that another `minwatt up` left behind would take
        a share of the connections and nobody would know.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
            holder = socket.socket(family, socket.SOCK_STREAM)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except UnicodeError as error:  # of a name that no host can have
            raise UsageError(f"--host = {host!r}: allowed: a host's name or address") from error
        except OSError as error:
            raise UsageError(f"--port = {port}: can't be had on {host!r} ({error.strerror})") from error
        return cls(host, holder.getsockname()[1], holder)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    def __enter__(self) -> SharedPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.close()
