"""Waiting for what comes by itself, however busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

WAIT_S = 60.0


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the condition holds. Raises TimeoutError when it never does."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def happens(condition: Callable[[], bool]) -> None:
    """As `eventually`, of what can be seen without waiting."""

    async def seen() -> bool:
        return condition()

    await eventually(seen)
