"""Signals as a list to wait for, in a process without an event loop. Used by `supervisor`.

A handler and a pipe, and not `sigwait`: libraries start threads of their own that block nothing, and a signal
that such a thread is given would be lost, or end the process.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


class Signals:
    """Those that have come, for a loop that waits for them. Whichever thread of a library gets one."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def next(self, timeout_s: float | None) -> list[int]:
        """Waits for one at least, or so long."""
        select.select([self._read], [], [], timeout_s)
        with suppress(BlockingIOError):
            return list(os.read(self._read, 1024))
        return []

    @contextmanager
    def held(self) -> Iterator[None]:
        """None is handled within: neither by a parent that forks nor by a child that has other handlers."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """All is as it was."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)
