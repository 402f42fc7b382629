"""Where the agent listens: a socket file that one agent at a time has.

Owns the file, what a dead agent left of it, and the lock beside it, which the kernel lets go of when the
agent is gone, however it went. Leaves what is said to `server`. Called by `cli`, before a card is touched:
two agents that do not share a journal would give back one another's cards.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from minwatt.v1.errors import UsageError

LONGEST_BYTES = 107  # sockaddr_un.sun_path, less its end


class SocketFile:
    """`close` removes it and gives the place back."""

    def __init__(self, path: Path) -> None:
        """Makes the folder if need be. Raises UsageError."""
        self.path = path
        if len(os.fsencode(path)) > LONGEST_BYTES:
            raise UsageError(f"socket = {path}: allowed: at most {LONGEST_BYTES} bytes")
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Never removed: who waits for a file that was would lock another one than who comes after.
            self._lock = os.open(
                path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise UsageError(f"socket = {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_socket():  # of an agent that was killed
                path.unlink()
            elif path.exists():
                raise FileExistsError(0, "is there and is no socket")
        except BlockingIOError as error:
            os.close(self._lock)
            raise UsageError(f"socket = {path}: another node agent listens there") from error
        except OSError as error:
            os.close(self._lock)
            raise UsageError(f"socket = {path}: {error.strerror}") from error

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._lock)
