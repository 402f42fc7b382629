"""A request's texts, of which some answers are known: the others are computed, and kept for the next one.

Stands between `inference` and what computes. One `KnownAnswers` a model: the store and the flights are shared
by all models of the process, the keys are the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, cast

from minwatt.v1.model_dir import Task
from service.answers import unpacked
from service.cache.flights import Compute as ComputeAll
from service.cache.flights import Flights, Found
from service.cache.keys import ModelKeys
from service.request import Answered, Cost, Request, TextResult
from service.statuses import deadline_exceeded
from service.validation import Options

KeepAt = Callable[[int, bytes], None]


class Compute(Protocol):
    """Computes the texts at these indexes and hands each one's packed answer to `keep`. Raises Refusal."""

    async def __call__(self, indexes: Sequence[int], keep: KeepAt) -> Request: ...


class KnownAnswers:
    """What one model has answered."""

    def __init__(self, flights: Flights, keys: ModelKeys) -> None:
        self._flights = flights
        self._keys = keys

    async def answered(
        self,
        task: Task,
        options: Options,
        texts: Sequence[str],
        compute: Compute,
        deadline_s: float = math.inf,
        scope: str = "",
    ) -> Answered:
        """The results in the texts' order; the cost is that of the computed ones. Raises Refusal.

        `scope` separates callers that must not learn of one another's texts, be it by a reply's speed.
        """
        cost = Cost()
        results: list[TextResult | None] = [None] * len(texts)

        async def computed(indexes: Sequence[int]) -> Mapping[int, bytes]:
            packed: dict[int, bytes] = {}
            request = await compute(indexes, packed.__setitem__)
            cost.add(request.cost)
            for index, result in zip(indexes, request.results, strict=True):
                results[index] = result
            return packed

        keys = [self._keys.key(scope, task, options.truncate, text) for text in texts]
        found = await self._found(keys, options.batch, computed, deadline_s)
        for index in found.shared:
            results[index] = unpacked(task, options, texts[index], found.values[index])
        cost.cached_texts = len(found.shared)
        cost.cache_s = found.store_s
        return Answered(results, cost)

    async def packed(
        self,
        keys: Sequence[bytes],
        batch: bool,
        compute: Callable[[Sequence[int]], Awaitable[Request]],
        deadline_s: float,
    ) -> Answered:
        """As `answered`, where a front end has the texts: their keys are given, the results are packed."""
        cost = Cost()

        async def computed(indexes: Sequence[int]) -> Mapping[int, bytes]:
            request = await compute(indexes)
            cost.add(request.cost)
            return dict(zip(indexes, cast(list[bytes], request.results), strict=True))

        found = await self._found(keys, batch, computed, deadline_s)
        cost.cached_texts = len(found.shared)
        cost.cache_s = found.store_s
        return Answered(found.values, cost)

    async def _found(
        self, keys: Sequence[bytes], batch: bool, computed: ComputeAll, deadline_s: float
    ) -> Found:
        try:
            return await self._flights.answers(keys, int(not batch), computed, deadline_s)
        except TimeoutError:
            raise deadline_exceeded("the deadline passed before the answer was there") from None
