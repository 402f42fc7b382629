"""When and where a request's texts become tokens: at once, or in slices on a thread.

Owns the thread. Called by `inference`, and by a front end in its own process; the tokens themselves are
`tokenize`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from minwatt.v1.decode import EncodedText
from service.tokenize import TextTokenizer, TooLong

HERE_CHARACTERS = 1000  # about 0.6 ms; a thread there and back is 0.1 ms, and waits for the GIL
AT_ONCE = 16  # texts, on the thread


class Tokenizing:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def encode(
        self, tokenizer: TextTokenizer, texts: Sequence[str], truncate: bool, words: bool
    ) -> list[EncodedText] | TooLong:
        """Short texts at once: their tokens take less time than the way to a thread and back. Else in slices
        on the thread, so that a request of many texts does not hold up all others."""
        short = sum(map(len, texts)) <= HERE_CHARACTERS  # most are: seen at once
        if short or tokenizer.effort(texts, words) <= HERE_CHARACTERS:
            return tokenizer.encode(texts, truncate, words)
        loop = asyncio.get_running_loop()
        encoded: list[EncodedText] = []
        for first in range(0, len(texts), AT_ONCE):
            some = texts[first : first + AT_ONCE]
            tokens = await loop.run_in_executor(self._thread, tokenizer.encode, some, truncate, words)
            if isinstance(tokens, TooLong):
                return TooLong(first + tokens.index, tokens.length)
            encoded += tokens
        return encoded

    def close(self) -> None:
        self._thread.shutdown(wait=False)
