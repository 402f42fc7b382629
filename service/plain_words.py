"""The short way from a plain text to its tokens, for tokenizers of BERT's kind.

Most of a short text's time in the tokenizer goes to what plain English has no need of: Unicode's normal
forms, offsets, a map from each character to where it came from. Of a text of printable ASCII such a tokenizer
makes lower case, runs of letters and digits, and punctuation marks each for itself; then each of these words
is cut into pieces by itself. That is done here, in a fifth of the time; the pieces are still the library's.
What lies between two blanks has the same tokens whatever stands around it: so in a text that is plain but
for a few places, these alone are the library's. Any other text is left to the library whole. Not plain is
what may hold one of the tokenizer's own tokens, too.

Pure. `tokenize` decides whether a tokenizer is of that kind, and asks here before it asks the library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

_CONTROLS = re.compile(r"[^\t\n\r -~]").search  # which BERT's normalizer takes out, or leaves: not plain
_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]").findall
PARTS_PER_OTHER = 8  # where more of a text's parts are not plain, asking for each takes as long as the whole
LONGEST = 4000  # characters: a third of a millisecond, and more than most models take
LONGEST_WORD = 20  # letters; a word's pieces take the square of them, or more
SAMPLES = (
    "".join(f"Ab{chr(mark)}c {chr(mark)} 9{chr(mark)}{chr(mark)} " for mark in range(0x20, 0x7F)),
    " \tA tab,\na line\r\nand  blanks. ",
    f"{'Long' * 30} unaffable tokenization of 3.14 e-mails o'clock",
)


class Piece(Protocol):
    @property
    def id(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PlainWords:
    """A tokenizer's, as far as plain texts need it. `marks`: what a plain text must not have: the characters
    that the tokenizer's own tokens begin with. `before`, `after`: the special tokens around a text."""

    pieces: Callable[[str], Sequence[Piece]]  # of one word, in lower case where the tokenizer has it so
    whole: Callable[[str], list[int]]  # the library's way, without special tokens
    lower: bool
    marks: Sequence[str]
    before: Sequence[int]
    after: Sequence[int]

    def fits(self, text: str) -> bool:
        """Whether the text is plain."""
        if not text.isascii() or not (text.isprintable() or _CONTROLS(text) is None):
            return False
        for mark in self.marks:  # noqa: SIM110 - a loop over one mark takes a third of any()'s time
            if mark in text:
                return False
        return True

    def ids(self, text: str) -> list[int] | None:
        """Special tokens included; None where the text is to be left to the library."""
        if self.fits(text):
            return [*self.before, *self._of_plain(text), *self.after]
        parts = text.split(" ")
        plain = [self.fits(part) for part in parts]
        if plain.count(False) * PARTS_PER_OTHER > len(parts):
            return None
        found = [*self.before]
        for part, fits in zip(parts, plain, strict=True):
            found += self._of_plain(part) if fits else self.whole(part)
        return [*found, *self.after]

    def _of_plain(self, text: str) -> list[int]:
        pieces = self.pieces
        words: list[str] = _WORDS(text.lower() if self.lower else text)
        return [piece.id for word in words for piece in pieces(word)]

    def shortened(self, ids: Sequence[int], count: int) -> list[int]:
        """The first `count` of more; the special tokens at the end stay there."""
        return [*ids[: count - len(self.after)], *self.after]


def marks_of(own_tokens: Iterable[str]) -> list[str] | None:
    """What tells a text that may hold one of these; None where a plain word could begin so, or a blank be
    part of one."""
    own = [token for token in own_tokens if token]
    marks = {token[0] for token in own if token[0].isascii()}
    blank = any(character.isspace() for token in own for character in token)
    return None if blank or any(mark.isalnum() for mark in marks) else sorted(marks)


def ordinary(text: str) -> bool:
    """Whether a plain text's time is as its length."""
    return len(text) <= LONGEST and max(map(len, text.split()), default=0) <= LONGEST_WORD
