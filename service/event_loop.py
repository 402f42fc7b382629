"""The event loop that a replica runs on: the only place that chooses it, the only file that imports uvloop.

uvloop (libuv) takes about a tenth of a short request's CPU off: reading and writing sockets, timers, and a
thread's word to the loop cost less. Everything above uses asyncio's own interfaces and runs on either. A
thread that computes a batch gets the interpreter within a millisecond, not after a long turn of the loop: it
needs it for a moment only, and its core idles until it has it.
Called by whatever runs a server: `cli`, and the benchmarks that start one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

SWITCH_INTERVAL_S = 0.001  # of the interpreter, between threads

T = TypeVar("T")


def run(main: Coroutine[None, None, T]) -> T:
    """`asyncio.run` on the server's loop."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
