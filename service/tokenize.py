"""Text to tokens: the only file that imports `tokenizers`.

`inference` calls it for short texts on the event loop and for long ones on a thread of its own. Plain texts
go the short way of `plain_words` where the tokenizer has one. For all others the library holds the
interpreter's lock while it encodes one text, and lets go of it for a batch, which costs as much as its texts
one by one: so all but a single short text is a batch, and the loop and the workers run meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from service.plain_words import SAMPLES, PlainWords, marks_of, ordinary

# Its only switch: on the calling thread, and not on a pool of as many threads as the engine has cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SHORT_CHARACTERS = 1000  # half a millisecond: to let go of the lock and to get it back may take as long
PLAIN_SHARE = 4  # characters of a plain text of ordinary words that take no longer than one of another
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
            self._plain = _plain_words(self._tokenizer)  # fails on one that knows neither a word nor [UNK]
        except Exception as error:  # the library raises bare Exception
            raise UsageError(
                f"{file}: not a tokenizers file: {' '.join(str(error).split())[:200]}"
            ) from error
        # Length is this server's matter: padding is the batch's, and a cut must be reported.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens

    def copied(self) -> str:
        """Of which `TextTokenizer.of` makes the same tokenizer in another process."""
        serialized: str = self._tokenizer.to_str()
        return serialized

    @classmethod
    def of(cls, copied: str, max_tokens: int) -> TextTokenizer:
        made = cls.__new__(cls)
        made._tokenizer = Tokenizer.from_str(copied)
        made._plain = _plain_words(made._tokenizer)
        made.max_tokens = max_tokens
        return made

    @property
    def highest_id(self) -> int:
        """Of a token; ids count from 0 without gaps."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size - 1

    def effort(self, texts: Sequence[str], words: bool) -> int:
        """Characters; of plain texts fewer, as their tokens are made so much faster."""
        plain = self._plain if not words else None
        if plain is None:
            return sum(map(len, texts))
        return sum(
            [len(text) // PLAIN_SHARE if ordinary(text) and plain.fits(text) else len(text) for text in texts]
        )

    def encode(self, texts: Sequence[str], truncate: bool, words: bool = True) -> list[EncodedText] | TooLong:
        """The texts' tokens in order, or the first text that is too long when it may not be truncated.

        `words`: whether `word_ids` and `offsets` will be read; else they stay empty. To turn them into
        Python's objects takes a third of a short text's time, and who classifies reads none.
        """
        max_characters = MAX_CHARACTERS_PER_TOKEN * self.max_tokens
        too_long = None
        if not truncate:  # a megabyte is not tokenised to be counted: that is slow
            too_long = next((i for i, text in enumerate(texts) if len(text) > max_characters), None)
        cut = [text[:max_characters] for text in texts[:too_long]]
        plain = self._plain if not words else None
        known = [  # the short way holds the interpreter's lock: not for what takes milliseconds
            plain.ids(text) if plain and (len(text) <= SHORT_CHARACTERS or ordinary(text)) else None
            for text in cut
        ]
        encodings = iter(self._encodings([cut[i] for i, ids in enumerate(known) if ids is None], words))
        encoded = []
        for index, ids in enumerate(known):
            encoding = next(encodings) if ids is None else None
            count = len(encoding or ids or ())
            if count > self.max_tokens and not truncate:
                return TooLong(index, f"has {count} tokens; the limit is {self.max_tokens}")
            truncated = count > self.max_tokens or len(texts[index]) > max_characters
            if encoding is not None:
                encoded.append(self._read(encoding, words, truncated))
            elif plain is not None and ids is not None:
                kept = ids if count <= self.max_tokens else plain.shortened(ids, self.max_tokens)
                encoded.append(EncodedText(kept, (), (), truncated))
        if too_long is not None:
            length = len(texts[too_long])
            return TooLong(too_long, f"has {length} characters; the limit is {max_characters}")
        return encoded

    def _read(self, encoding: Encoding, words: bool, truncated: bool) -> EncodedText:
        ids = encoding.ids
        kept = None
        if len(ids) > self.max_tokens:
            kept = _kept(encoding, self.max_tokens)
            ids = [ids[position] for position in kept]
        return EncodedText(ids, *(_words(encoding, kept) if words else ((), ())), truncated)

    def _encodings(self, texts: list[str], words: bool) -> list[Encoding]:
        if not texts:
            return []
        if len(texts) == 1 and len(texts[0]) <= SHORT_CHARACTERS:
            return [self._tokenizer.encode(texts[0])]
        encode = self._tokenizer.encode_batch if words else self._tokenizer.encode_batch_fast  # no offsets
        encodings: list[Encoding] = encode(texts)
        return encodings


def _kept(encoding: Encoding, max_tokens: int) -> list[int]:
    """Positions of the first tokens; special tokens at the end ([SEP]) stay at the end."""
    count, special = len(encoding), encoding.special_tokens_mask
    tail = next(i for i in range(count) if not special[count - 1 - i])
    return [*range(max_tokens - tail), *range(count - tail, count)]


def _words(
    encoding: Encoding, kept: list[int] | None
) -> tuple[Sequence[int | None], Sequence[tuple[int, int]]]:
    word_ids, offsets = encoding.word_ids, encoding.offsets
    if kept is None:
        return word_ids, offsets
    return [word_ids[position] for position in kept], [offsets[position] for position in kept]


def _plain_words(tokenizer: Tokenizer) -> PlainWords | None:
    """None where plain texts have no short way: it is of another kind, or reads them otherwise."""
    model, normalizer = tokenizer.model, tokenizer.normalizer
    if not (
        isinstance(model, WordPiece)
        and isinstance(normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
    ):
        return None
    own_tokens = tokenizer.get_added_tokens_decoder().values()
    # Some are looked for in the normal form of a text, by their own: "Ünique" in "unique".
    normal = [normalizer.normalize_str(token.content).strip() for token in own_tokens if token.normalized]
    marks = marks_of([*(token.content for token in own_tokens), *normal])
    if marks is None:
        return None
    sample = tokenizer.encode("a")
    own = [position for position, special in enumerate(sample.special_tokens_mask) if not special]
    before, after = (sample.ids[: own[0]], sample.ids[own[-1] + 1 :]) if own else ([], [])

    def whole(part: str) -> list[int]:
        ids: list[int] = tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    plain = PlainWords(model.tokenize, whole, normalizer.lowercase, marks, before, after)
    for text in SAMPLES:  # whatever else is set in this tokenizer: it must not matter
        without_marks = "".join(character for character in text if character not in marks)
        if plain.ids(without_marks) != tokenizer.encode(without_marks).ids:
            return None
    return plain
