"""Texts of mixed length, made of the packaged sentences with a seed: half have about 15 tokens, one in a
hundred has about 60 or more.

Pure but for `write_bodies`. Lengths are log-normal, as those of support messages and headlines are; a text is
a run of words of the packaged sentences, as long as it was drawn to be. Called by `run` and by `peers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from struct import Struct

from loadtest.plan import Task
from loadtest.texts import packaged_texts

SEED = 20_26
MEDIAN_TOKENS = 15
TAIL_TOKENS = 60  # one text in a hundred is longer
MOST_TOKENS = 120
_TAIL_DEVIATIONS = 2.326  # of a normal distribution, at 99%
_SIGMA = math.log(TAIL_TOKENS / MEDIAN_TOKENS) / _TAIL_DEVIATIONS
_LENGTH = Struct(">I")

TokenCount = Callable[[str], int]


def mixed_texts(count: int, tokens: TokenCount, seed: int = SEED) -> list[str]:
    """`count` different texts; `tokens` counts a text's tokens, special ones included."""
    draw = Random(seed)
    words = [word for task in Task for sentence in packaged_texts(task) for word in sentence.split()]
    special = tokens("")
    of_word = {word: tokens(word) - special for word in set(words)}
    texts: dict[str, None] = {}
    while len(texts) < count:
        wanted = min(MOST_TOKENS, round(MEDIAN_TOKENS * math.exp(draw.gauss(0.0, _SIGMA)))) - special
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


def grouped(texts: Sequence[str], size: int) -> list[list[str]]:
    """`size` texts a group, in order; what is left at the end goes."""
    return [list(texts[i : i + size]) for i in range(0, len(texts) - size + 1, size)]


def write_bodies(file: Path, bodies: Sequence[bytes]) -> str:
    """Messages as the load generator reads them; returns the file's path."""
    file.write_bytes(b"".join(_LENGTH.pack(len(body)) + body for body in bodies))
    return str(file)


def read_bodies(file: str) -> list[bytes]:
    data, at, bodies = Path(file).read_bytes(), 0, []
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        bodies.append(data[at : at + length])
        at += length
    return bodies
