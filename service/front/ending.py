"""How a connection ends: a notice, then GOAWAY, then what is in flight, then the socket; by drain or by age.

Owns the order and the times. What is said in HTTP/2, and what is in flight, is `http2`'s matter, which makes
one for each connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

NOTICE_S = 1.0  # GOAWAY takes effect when the peer has seen the notice, or after this
LINGER_S = 1.0  # the peer hangs up first: a socket closed on unread bytes is reset, and replies are lost
AGE_JITTER = 0.1
AGE_GRACE_S = 30.0  # a connection that has grown old finishes what it carries; then its streams are ended
CUT_S = 10.0  # after that

_ages = random.Random()  # its own: tests are strict about who moves the one that all share


class Connection(Protocol):
    """What ends."""

    def send_notice(self) -> None:
        """And asks the peer to say that it has come."""

    def send_goaway(self, code: int, said: bytes) -> None: ...

    def end_streams(self) -> None:
        """After what has come on them."""

    def cut(self) -> None:
        """All at once, now."""


class Ending:
    """Of one connection, told to it each time: holding each other, both would wait for the collector."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.said_goodbye = False  # requests that come now are not answered
        self._loop = loop
        self._noticed = False
        self._timers: list[asyncio.TimerHandle] = []

    def at_age(self, max_age_s: float, connection: Connection) -> None:
        """Begins after so long, ±10%: connections that came at once don't all leave at once."""
        age_s = max_age_s * _ages.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)
        self.later(age_s, partial(self._grown_old, connection))

    def give_notice(self, connection: Connection) -> None:
        """Requests that cross the notice on their way are still answered; GOAWAY proper comes behind it."""
        if not self._noticed:
            self._noticed = True
            connection.send_notice()
            self.later(NOTICE_S, partial(self.say_goodbye, connection))

    def say_goodbye(self, connection: Connection, code: int = 0, said: bytes = b"") -> None:
        if not self.said_goodbye:
            self.said_goodbye = True
            connection.send_goaway(code, said)

    def hang_up(self, transport: asyncio.Transport) -> None:
        transport.close()
        self.later(LINGER_S, transport.abort)  # a peer that reads nothing is not waited for

    def hang_up_last(self, transport: asyncio.Transport) -> None:
        """The client is the one to hang up, within a moment."""
        self.later(LINGER_S, partial(self.hang_up, transport))

    def later(self, delay_s: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Unless HTTP/2 is over by then."""
        timer = self._loop.call_later(delay_s, act)
        self._timers.append(timer)
        return timer

    def is_over(self) -> None:
        """HTTP/2 is: what was to happen in it later doesn't."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _grown_old(self, connection: Connection) -> None:
        self.give_notice(connection)
        self.later(AGE_GRACE_S, connection.end_streams)
        self.later(AGE_GRACE_S + CUT_S, connection.cut)
