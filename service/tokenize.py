"""Text to tokens: the only file that imports `tokenizers`.

`inference` calls it for short texts on the event loop and for long ones on a thread of its own. A batch of
short texts in one call is no cheaper than one call each (measured: 45 and 43 µs a text), so none is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError

MAX_CHARACTERS_PER_TOKEN = 32  # English has 4 or 5; a text beyond is over the limit, or full of blanks


@dataclass(frozen=True, slots=True)
class TooLong:
    """A text of more tokens than the model takes, where that is refused."""

    index: int
    length: str  # what it has and what the limit is


class TextTokenizer:
    """The model's tokenizer with its limit; special tokens count."""

    def __init__(self, file: Path, max_tokens: int) -> None:
        """Raises UsageError when the file is no tokenizer."""
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise UsageError(
                f"{file}: not a tokenizers file: {' '.join(str(error).split())[:200]}"
            ) from error
        # Length is this server's matter: padding is the batch's, and a cut must be reported.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens

    @property
    def highest_id(self) -> int:
        """Of a token; ids count from 0 without gaps."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size - 1

    def encode(self, texts: Sequence[str], truncate: bool) -> list[EncodedText] | TooLong:
        """The texts' tokens in order, or the first text that is too long when it may not be truncated."""
        encoded = []
        for index, text in enumerate(texts):
            one = self._encode(text, truncate)
            if isinstance(one, str):
                return TooLong(index, one)
            encoded.append(one)
        return encoded

    def _encode(self, text: str, truncate: bool) -> EncodedText | str:
        """The tokens, or how long the text is. A megabyte is not tokenised to be counted: that is slow."""
        max_characters = MAX_CHARACTERS_PER_TOKEN * self.max_tokens
        if len(text) > max_characters and not truncate:
            return f"has {len(text)} characters; the limit is {max_characters}"
        encoding = self._tokenizer.encode(text[:max_characters])
        tokens = EncodedText(
            encoding.ids, encoding.word_ids, encoding.offsets, truncated=len(text) > max_characters
        )
        if len(tokens) > self.max_tokens and not truncate:
            return f"has {len(tokens)} tokens; the limit is {self.max_tokens}"
        return _cut(tokens, self.max_tokens)


def _cut(text: EncodedText, max_tokens: int) -> EncodedText:
    """The first tokens; special tokens at the end ([SEP]) stay at the end."""
    if len(text) <= max_tokens:
        return text
    tail = next(i for i in range(len(text)) if text.word_ids[len(text) - 1 - i] is not None)
    head = max_tokens - tail
    kept = [*range(head), *range(len(text) - tail, len(text))]
    return EncodedText(
        [text.ids[i] for i in kept],
        [text.word_ids[i] for i in kept],
        [text.offsets[i] for i in kept],
        truncated=True,
    )
