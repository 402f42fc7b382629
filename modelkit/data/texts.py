"""What a text may be labelled with: one label, or entities; and tags to code point spans and back.

Pure. Leaves files to `formats`, tokenisation to `batches`, and the decoding of a model's logits to
`minwatt.v1.decode`. Used throughout `modelkit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.v1.errors import UsageError

OUTSIDE = "O"


class DataError(UsageError):
    """A data file that cannot be used; the message names file, line, value and what is allowed."""


@dataclass(frozen=True)
class LabelledText:
    """One text and the index of its label in the set's `labels.txt`."""

    text: str
    label: int


@dataclass(frozen=True, order=True)
class Span:
    """An entity: code points `start` (inclusive) to `end` (exclusive) of a text, and its label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class AnnotatedText:
    """A text and its entities, in order and apart from one another."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class TaggedSentence:
    """Tokens and their BIO tags, one for one; the sentence's text is the tokens joined by one space."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentence as it is sent to a model."""
        return " ".join(self.tokens)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The entities, in order, as code point spans of `text`.

        An `I-` tag that follows no tag of its own label opens an entity, as seqeval's default does.
        """
        spans: list[Span] = []
        start, label, position, previous_end = 0, OUTSIDE, 0, 0
        for token, tag in zip(self.tokens, self.tags, strict=True):
            continues = tag.startswith("I-") and tag[2:] == label
            if label != OUTSIDE and not continues:
                spans.append(Span(start, previous_end, label))
                label = OUTSIDE
            if tag != OUTSIDE and not continues:
                start, label = position, tag[2:]
            previous_end = position + len(token)
            position = previous_end + 1
        if label != OUTSIDE:
            spans.append(Span(start, previous_end, label))
        return tuple(spans)

    @property
    def annotated(self) -> AnnotatedText:
        """The same, without its tokens."""
        return AnnotatedText(self.text, self.spans)


def tags_of_offsets(spans: Sequence[Span], offsets: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Tag each piece of a text: `B-` for the first piece that touches a span, `I-` for its others.

    `offsets` are code point ranges in ascending order; an empty range (a special token) is `O`.
    """
    tags: list[str] = []
    entered = -1
    for start, end in offsets:
        touched = next((i for i, s in enumerate(spans) if start < s.end and end > s.start), None)
        if touched is None or start == end:
            tags.append(OUTSIDE)
            continue
        tags.append(("I-" if touched == entered else "B-") + spans[touched].label)
        entered = touched
    return tuple(tags)


def tags_of_pieces(
    spans: Sequence[Span], word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]
) -> list[str | None]:
    """The tag of every piece: that of its pre-tokenizer word, as decoding reads them; None if special."""
    ranges: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(word_ids, offsets, strict=True):
        if word is not None:
            ranges[word] = (ranges.get(word, (start, end))[0], end)
    tags = dict(zip(ranges, tags_of_offsets(spans, list(ranges.values())), strict=True))
    return [None if word is None else tags[word] for word in word_ids]
