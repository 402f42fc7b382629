"""The event loop that a replica runs on: the only place that chooses it, the only file that imports uvloop.

uvloop (libuv) takes about a tenth of a short request's CPU off: reading and writing sockets, timers, and a
thread's word to the loop cost less. Everything above uses asyncio's own interfaces and runs on either.
Called by whatever runs a server: `cli`, and the benchmarks that start one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[None, None, T]) -> T:
    """`asyncio.run` on the server's loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
