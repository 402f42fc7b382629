"""Texts of a wanted length in tokens, for requests whose words nobody kept.

Their words are so common that an English tokenizer of BERT's kind holds each as one token; a text has two
more, its beginning's and its end's. Pure. Called by `capture`.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

SPECIAL_TOKENS = 2
WORDS = tuple(files("loadtest").joinpath("texts", "common-words.txt").read_text(encoding="utf-8").split())


def text_of(tokens: int, rng: np.random.Generator) -> str:
    """A text that is so many tokens; of one word where that is less than three."""
    picked = rng.integers(len(WORDS), size=max(1, tokens - SPECIAL_TOKENS))
    return " ".join([WORDS[index] for index in picked.tolist()])


def texts_of(count: int, tokens: int, rng: np.random.Generator) -> list[str]:
    """`count` texts that are `tokens` together, as even as can be; at least one word each."""
    each, more = divmod(tokens, count)
    return [text_of(each + (index < more), rng) for index in range(count)]
