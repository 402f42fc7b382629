"""Many texts as requests of a size that suits a server, a bounded number of them at a time, answers in order.

`Packer` is pure; `in_order` and `in_order_async` are the same window, over threads and over tasks. Called by
`client`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from minwatt.failures import RequestFailed, moved
from minwatt.results import Reply

T = TypeVar("T")

PACKED_TEXTS = 32
PACKED_BYTES = 256 * 1024  # a quarter of what a server takes by default
REQUESTS_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class Window:
    """How much is under way at once."""

    texts_per_request: int
    in_flight: int  # requests

    def __post_init__(self) -> None:
        for name in ("texts_per_request", "in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: allowed: 1 or more")


@dataclass(frozen=True, slots=True)
class Pack:
    """Texts `offset`, `offset` + 1, … of those given."""

    offset: int
    texts: tuple[str, ...]


@dataclass(slots=True)
class Packer:
    """Fills packs one text at a time: in order, none left out, none empty."""

    most_texts: int = PACKED_TEXTS
    most_bytes: int = PACKED_BYTES
    _offset: int = 0
    _bytes: int = 0
    _texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> list[Pack]:
        """The packs that are full now. A text of more than `most_bytes` gets one to itself."""
        size = len(text.encode(errors="replace"))
        full = self.rest() if self._bytes + size > self.most_bytes else []
        self._texts.append(text)
        self._bytes += size
        return full + self.rest() if len(self._texts) == self.most_texts else full

    def rest(self) -> list[Pack]:
        """What has been added and not given out yet."""
        if not self._texts:
            return []
        pack = Pack(self._offset, tuple(self._texts))
        self._offset += len(pack.texts)
        self._bytes, self._texts = 0, []
        return [pack]


def in_order(ask: Callable[[Sequence[str]], Reply[T]], texts: Iterable[str], window: Window) -> Iterator[T]:
    """Each text's result. Texts are taken as requests leave; raises what the first failed request raised."""
    _no_string(texts)
    return _in_order(ask, texts, window)


def _in_order(ask: Callable[[Sequence[str]], Reply[T]], texts: Iterable[str], window: Window) -> Iterator[T]:
    waiting: deque[tuple[Pack, Future[Reply[T]]]] = deque()
    with ThreadPoolExecutor(window.in_flight, "minwatt") as senders:
        try:
            for pack in _packs(texts, Packer(window.texts_per_request)):
                while waiting and (len(waiting) == window.in_flight or waiting[0][1].done()):
                    first, answer = waiting.popleft()
                    yield from _results(first, answer.result)
                waiting.append((pack, senders.submit(ask, pack.texts)))
            for first, answer in waiting:
                yield from _results(first, answer.result)
        finally:
            for _, answer in waiting:
                answer.cancel()


def in_order_async(
    ask: Callable[[Sequence[str]], Awaitable[Reply[T]]],
    texts: Iterable[str] | AsyncIterable[str],
    window: Window,
) -> AsyncIterator[T]:
    """As in_order."""
    _no_string(texts)
    return _in_order_async(ask, texts, window)


async def _in_order_async(
    ask: Callable[[Sequence[str]], Awaitable[Reply[T]]],
    texts: Iterable[str] | AsyncIterable[str],
    window: Window,
) -> AsyncIterator[T]:
    waiting: deque[tuple[Pack, asyncio.Future[Reply[T]]]] = deque()
    try:
        async for pack in _packs_async(texts, Packer(window.texts_per_request)):
            while waiting and (len(waiting) == window.in_flight or waiting[0][1].done()):
                first, answer = waiting[0]
                await asyncio.wait({answer})
                waiting.popleft()
                for result in _results(first, answer.result):
                    yield result
            waiting.append((pack, asyncio.ensure_future(ask(pack.texts))))
        while waiting:
            first, answer = waiting[0]
            await asyncio.wait({answer})
            waiting.popleft()
            for result in _results(first, answer.result):
                yield result
    finally:
        for _, answer in waiting:
            answer.cancel()
        await asyncio.gather(*(answer for _, answer in waiting), return_exceptions=True)


def _no_string(texts: object) -> None:
    if isinstance(texts, str):  # a string is an iterable of its characters, and never meant so
        raise TypeError("texts: an iterable of strings is needed, not one string")


def _results(pack: Pack, answer: Callable[[], Reply[T]]) -> tuple[T, ...]:
    try:
        return answer().results
    except RequestFailed as failure:
        raise moved(failure, pack.offset) from failure


def _packs(texts: Iterable[str], packer: Packer) -> Iterator[Pack]:
    for text in texts:
        yield from packer.add(text)
    yield from packer.rest()


async def _packs_async(texts: Iterable[str] | AsyncIterable[str], packer: Packer) -> AsyncIterator[Pack]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            for pack in packer.add(text):
                yield pack
    else:
        for text in texts:
            for pack in packer.add(text):
                yield pack
    for pack in packer.rest():
        yield pack
