"""Texts whose right answers are known, for runs that check every answer.

The right answers are those a quiet replica of the same model gave before the run. Used by `chaos` and `soak`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import minwatt
from loadtest.plan import Task
from loadtest.texts import packaged_texts
from tests.tiny_model import ENTITY_WORDS, WORDS

SCORE_TOLERANCE = 1e-3  # the order of additions in a batch moves the last digits


@dataclass(frozen=True, slots=True)
class Question:
    """One request's texts, and what is right for them."""

    texts: list[str]
    labels: tuple[minwatt.Classification, ...]
    entities: tuple[minwatt.Extraction, ...]

    def labelled(self, reply: minwatt.Reply[minwatt.Classification]) -> bool:
        """Whether the reply is right."""
        return len(reply) == len(self.labels) and all(
            got.label == right.label
            and math.isclose(got.score or 0.0, right.score or 0.0, abs_tol=SCORE_TOLERANCE)
            for got, right in zip(reply, self.labels, strict=True)
        )

    def extracted(self, reply: minwatt.Reply[minwatt.Extraction]) -> bool:
        """Whether the reply is right."""
        return len(reply) == len(self.entities) and all(
            [(e.label, e.start, e.end) for e in got.entities]
            == [(e.label, e.start, e.end) for e in right.entities]
            for got, right in zip(reply, self.entities, strict=True)
        )


AnyText = Callable[[random.Random], str]


def tiny_model_text(draw: random.Random) -> str:
    """One to twelve words that the tiny model knows."""
    return " ".join(draw.choices([*WORDS, *ENTITY_WORDS], k=draw.randint(1, 12)))


def packaged_text(draw: random.Random) -> str:
    return draw.choice(_packaged())


@cache
def _packaged() -> list[str]:
    return packaged_texts(Task.CLASSIFY) + packaged_texts(Task.EXTRACT)


async def questions(client: minwatt.AsyncClient, any_text: AnyText, count: int, seed: int) -> list[Question]:
    """Of one to four texts each."""
    draw = random.Random(seed)
    asked = []
    for _ in range(count):
        texts = [any_text(draw) for _ in range(draw.choice((1, 1, 1, 2, 4)))]
        labels = (await client.classify(texts)).results
        entities = (await client.extract_entities(texts)).results
        asked.append(Question(texts, labels, entities))
    return asked
