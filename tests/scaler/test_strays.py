"""Replicas that are meant for another fleet, or misnamed, are told of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from scaler.strays import tell_of_strays
from tests.eventually import happens


class Hub:
    """Of strays alone."""

    def __init__(self, *looks: Mapping[str, int]) -> None:
        self.looks = [*looks]

    async def strays(self) -> Mapping[str, int]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


async def test_each_number_of_them_is_told_once() -> None:
    looks = {}, {"a/x": 2}, {"a/x": 2, "b": 1}, {"a/x": 3, "b": 1}, {}, {"b": 1}, {"b": 1}
    hub, told = Hub(*looks), list[tuple[str, int]]()
    telling = asyncio.create_task(
        tell_of_strays(hub, lambda fleet, replicas: told.append((fleet, replicas)), every_s=0.001)
    )
    await happens(lambda: len(told) == 4)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    assert told == [("a/x", 2), ("b", 1), ("a/x", 3), ("b", 1)]
