"""A hub's connection to Redis: asks, gives up in time, and is opened anew after a failure, not at once.

Owns patience and backoff; what is asked is `redis_bus`'s, how one connects `redis_connection`'s.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from minwatt.v1.backoff import backoff_s
from minwatt.v1.redis_address import RedisAddress
from minwatt.v1.redis_connection import connected, in_words, of_one_question

log = logging.getLogger(__name__)

PATIENCE_S = 2.0  # for one answer; a look waits no longer for a Redis that is slow


class AwayError(Exception):
    """Why Redis can't be asked, in words."""


class Line:
    """The hub's connection. After a failure it is opened anew, and not at once."""

    def __init__(self, address: RedisAddress, clock: Callable[[], float]) -> None:
        self.address = address
        self._clock = clock
        self._draw = random.Random()
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._failures = 0
        self._why = ""
        self._again_s = -math.inf

    async def command(self, *words: str | bytes | int) -> Any:
        """Raises AwayError."""
        return await self.ask(lambda redis: redis.execute_command(*words))

    async def ask(self, question: Callable[[Any], Awaitable[Any]]) -> Any:
        """Raises AwayError."""
        if self._clock() < self._again_s:
            raise AwayError(self._why)
        client = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self._client is None:
                    self._client = await self._stack.enter_async_context(connected(self.address, PATIENCE_S))
                    self._client.set_response_callback("XRANGE", _as_it_came)
                client = self._client
                answer = await question(client)
        except Exception as error:
            # Whatever the library raises: a cluster's errors are no RedisError, and where a slot moves to a
            # node that the client has not heard of it is AttributeError.
            if of_one_question(error):
                raise AwayError(in_words(error)) from error
            if client is self._client:  # else it was another question's failure already
                await self._failed(in_words(error))
            raise AwayError(in_words(error)) from error
        if self._failures:
            log.info("%s is back", self.address)
            self._failures = 0
        return answer

    async def close(self) -> None:
        self._client = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def _failed(self, why: str) -> None:
        if not self._failures:
            log.warning("%s is away (%s): holding", self.address, why)
        self._failures += 1
        self._why = why
        self._again_s = self._clock() + backoff_s(self._failures, self._draw)
        await self.close()


def _as_it_came(response: Any, **_: Any) -> Any:
    """The library makes a dictionary of each entry, which takes longer than to read a large fleet's."""
    return response
