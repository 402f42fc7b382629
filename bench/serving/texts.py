"""Texts of mixed length, made of the packaged sentences with a seed: half have about 15 tokens, one in a
hundred has about 60 or more.

Pure. Lengths are log-normal, as those of support messages and headlines are; a text is
a run of words of the packaged sentences, as long as it was drawn to be. Called by `run` and by `peers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from loadtest.plan import Task
from loadtest.texts import packaged_texts

SEED = 20_26
MEDIAN_TOKENS = 15
TAIL_TOKENS = 60  # one text in a hundred is longer
MOST_TOKENS = 120
_TAIL_DEVIATIONS = 2.326  # of a normal distribution, at 99%
_SIGMA = math.log(TAIL_TOKENS / MEDIAN_TOKENS) / _TAIL_DEVIATIONS

TokenCount = Callable[[str], int]


def mixed_texts(
    count: int, tokens: TokenCount, most_tokens: int = MOST_TOKENS, seed: int = SEED
) -> list[str]:
    """`count` different texts; `tokens` counts a text's tokens, special ones included."""
    draw = Random(seed)
    words = [word for task in Task for sentence in packaged_texts(task) for word in sentence.split()]
    special = tokens("")
    of_word = {word: tokens(word) - special for word in set(words)}
    texts: dict[str, None] = {}
    while len(texts) < count:
        wanted = min(most_tokens, round(MEDIAN_TOKENS * math.exp(draw.gauss(0.0, _SIGMA)))) - special
        texts[_run(words, of_word, draw.randrange(len(words)), wanted)] = None
    return list(texts)


def _run(words: Sequence[str], of_word: dict[str, int], first: int, wanted: int) -> str:
    """Words from `first` on, of at least one and up to `wanted` tokens together."""
    taken: list[str] = []
    left = wanted
    for offset in range(len(words)):
        word = words[(first + offset) % len(words)]
        left -= of_word[word]
        if taken and left < 0:
            break
        taken.append(word)
    return " ".join(taken)
