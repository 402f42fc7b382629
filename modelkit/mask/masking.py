"""Masks one text: what stands in for each finding, and where annotations lie afterwards.

Pure but for a run's random key. Owns placeholders, pseudonyms and the shift of offsets. Leaves what is found
to `patterns`, `phones` and `names`, the files' formats to `rows`. Called by `run`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, get_args

from minwatt.v1.errors import UsageError
from modelkit.data.texts import Span
from modelkit.mask.findings import (
    DIGEST_DIGITS,
    PATTERN_KINDS,
    Finding,
    exhaustive,
    kind_of_label,
    placeholder_pattern,
)
from modelkit.mask.patterns import find_patterns
from modelkit.mask.phones import find_phones

Pseudonyms = Literal["none", "text", "run"]
PSEUDONYMS: tuple[Pseudonyms, ...] = get_args(Pseudonyms)


@dataclass(frozen=True)
class Piece:
    """A range of a text and what stands in for it."""

    start: int
    end: int
    placeholder: str


@dataclass(frozen=True)
class MaskOptions:
    """`labels`: the entity types that are masked, of the model's findings and of annotations alike."""

    labels: tuple[str, ...] = ("PER",)
    regions: tuple[str, ...] = ("US", "GB")
    keep: tuple[str, ...] = ()
    pseudonyms: Pseudonyms = "none"

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds that may be masked."""
        names = dict.fromkeys(kind_of_label(label) for label in self.labels)
        return tuple(kind for kind in (*PATTERN_KINDS, *names) if kind not in self.keep)


def check_kinds(options: MaskOptions) -> None:
    """Raises UsageError where a kind is kept that is none."""
    every = replace(options, keep=()).kinds
    for kind in options.keep:
        if kind not in every:
            raise UsageError(f"--keep = {kind!r}: allowed: {', '.join(every)}")
    if not options.kinds:
        raise UsageError("--keep: every kind is kept; leave one to be masked")


@dataclass(frozen=True)
class Masker:
    """Finds and names what is to be masked; `key` makes a run's pseudonyms and is forgotten with it."""

    options: MaskOptions
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def find(self, text: str, names: Sequence[Finding] = (), spans: Sequence[Span] = ()) -> list[Finding]:
        """What is masked of `text`: `names` that a model found, annotated entities, and what has a form."""
        kinds = self.options.kinds
        annotated = (
            Finding(span.start, span.end, kind_of_label(span.label))
            for span in spans
            if span.label in self.options.labels
        )
        named = [one for one in (*names, *annotated) if one.kind in kinds]
        found = exhaustive(text, self._forms, named, placeholder_pattern(kinds))
        return [trimmed for one in found if (trimmed := _trimmed(text, one.start, one.end, one.kind))]

    def pieces(
        self, text: str, findings: Sequence[Finding], cuts: Callable[[Finding], Sequence[int]]
    ) -> list[Piece]:
        """What replaces the findings; each is cut where `cuts` says, its parts share a placeholder."""
        numbers: dict[tuple[str, str], int] = {}
        used = self._used(text)
        result = []
        for one in findings:
            placeholder = self._placeholder(one.kind, text[one.start : one.end], numbers, used)
            for start, end in pairwise((one.start, *cuts(one), one.end)):
                if part := _trimmed(text, start, end, one.kind):
                    result.append(Piece(part.start, part.end, placeholder))
        return result

    def _forms(self, text: str) -> Iterator[Finding]:
        kinds = self.options.kinds
        for one in find_patterns(text):
            if one.kind in kinds:
                yield one
        if "PHONE" in kinds:
            yield from find_phones(text, self.options.regions)

    def _used(self, text: str) -> dict[str, int]:
        """Of each kind the highest number that the text has already, from an earlier run."""
        used: dict[str, int] = {}
        if self.options.pseudonyms == "text":
            for match in placeholder_pattern(self.options.kinds).finditer(text):
                kind, _, number = match.group()[1:-1].rpartition("_")
                if number.isdecimal() and len(number) < DIGEST_DIGITS:
                    used[kind] = max(used.get(kind, 0), int(number))
        return used

    def _placeholder(
        self, kind: str, value: str, numbers: dict[tuple[str, str], int], used: dict[str, int]
    ) -> str:
        if self.options.pseudonyms == "none":
            return f"[{kind}]"
        same = "".join(filter(str.isalnum, value.casefold())) or value
        if self.options.pseudonyms == "run":
            digest = hmac.new(self.key, f"{kind}:{same}".encode(), hashlib.sha256).hexdigest()
            return f"[{kind}_{digest[:DIGEST_DIGITS]}]"
        if (kind, same) not in numbers:
            used[kind] = numbers[kind, same] = used.get(kind, 0) + 1
        return f"[{kind}_{numbers[kind, same]}]"


def starts_within(spans: Sequence[Span], one: Finding) -> list[int]:
    """Where a finding is cut so that no two annotations come to lie on one placeholder."""
    touched = sorted(span.start for span in spans if span.start < one.end and one.start < span.end)
    return [start for start in touched[1:] if one.start < start]


def replaced(text: str, pieces: Sequence[Piece]) -> str:
    """The text with each piece's placeholder in its place."""
    parts, at = [], 0
    for piece in pieces:
        parts += [text[at : piece.start], piece.placeholder]
        at = piece.end
    return "".join([*parts, text[at:]])


def moved(spans: Sequence[Span], pieces: Sequence[Piece]) -> tuple[Span, ...]:
    """The annotations of the replaced text. One that ends inside a piece then holds its whole placeholder."""
    return tuple(
        Span(_moved(span.start, pieces, ends=False), _moved(span.end, pieces, ends=True), span.label)
        for span in spans
    )


def _moved(position: int, pieces: Sequence[Piece], ends: bool) -> int:
    shift = 0
    for piece in pieces:
        if position <= piece.start:
            break
        if position < piece.end:
            return piece.start + shift + (len(piece.placeholder) if ends else 0)
        shift += len(piece.placeholder) - (piece.end - piece.start)
    return position + shift


def _trimmed(text: str, start: int, end: int, kind: str) -> Finding | None:
    """Without spaces at either end; None of spaces alone."""
    part = text[start:end]
    left, right = len(part) - len(part.lstrip()), len(part.rstrip())
    return Finding(start + left, start + right, kind) if left < right else None
