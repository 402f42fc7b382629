"""What was found in a text and must not stay: ranges of it with a kind, made one where they overlap.

Pure. Owns the kinds and which of two wins, placeholders and how they are told from text, and the search that
leaves nothing. Leaves what is looked for to `patterns`, `phones` and `names`. Called by `masking`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

PATTERN_KINDS = ("URL", "EMAIL", "IBAN", "CARD", "IP", "ID", "PHONE", "NUMBER")
DIGEST_DIGITS = 10  # of a placeholder that is alike in all files of a run
# What the entity types of most sets stand for; another type is its own kind.
_KIND_OF_LABEL = {"PER": "PERSON", "LOC": "LOCATION", "ORG": "ORGANIZATION"}


@dataclass(frozen=True, order=True)
class Finding:
    """Code points `start` (inclusive) to `end` (exclusive) of a text, and what they are."""

    start: int
    end: int
    kind: str


Find = Callable[[str], Iterable[Finding]]


def kind_of_label(label: str) -> str:
    """The kind of an entity type: PERSON of PER, JOB_TITLE of job-title."""
    known = _KIND_OF_LABEL.get(label.upper())
    return known or re.sub(r"[^A-Z0-9]+", "_", label.upper()).strip("_") or "ENTITY"


def placeholder_pattern(kinds: Iterable[str]) -> re.Pattern[str]:
    """Matches a placeholder of one of the kinds: [EMAIL], [EMAIL_2], [EMAIL_0c3f9a21be].

    One of another length is text: a number may be hidden in it.
    """
    suffix = rf"[1-9][0-9]{{0,5}}|[0-9a-f]{{{DIGEST_DIGITS}}}"
    return re.compile(rf"\[(?:{'|'.join(map(re.escape, kinds))})(?:_(?:{suffix}))?\]")


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """In order and apart from one another: what overlaps becomes one, of the kind that says most.

    A part of what any finder saw never stays behind.
    """
    result: list[Finding] = []
    for finding in sorted(findings):
        if result and finding.start < result[-1].end:
            last = result.pop()
            kind = min(last.kind, finding.kind, key=_rank)
            finding = Finding(last.start, max(last.end, finding.end), kind)
        result.append(finding)
    return result


def exhaustive(text: str, find: Find, named: Sequence[Finding], settled: re.Pattern[str]) -> list[Finding]:
    """`named` and all that `find` sees in the text, then in what is left between, until it sees no more.

    What `settled` matches, placeholders of an earlier run, stays as it is. So `find` sees nothing in a text
    of which all findings have been replaced with such placeholders. Each step leaves less text: it ends.
    """
    placeholders = [Finding(*match.span(), "") for match in settled.finditer(text)]
    seen = [one for gap in _between(0, len(text), placeholders) for one in _found(text, find, gap)]
    findings = merged([*seen, *(part for one in named for part in _outside(one, placeholders))])
    todo = _between(0, len(text), sorted([*findings, *placeholders]))
    while todo:
        gap = todo.pop()
        more = merged(_found(text, find, gap))
        if more:
            findings += more
            todo += _between(*gap, more)
    return sorted(findings)


def _rank(kind: str) -> int:
    """Patterns before names, as they are surer; a bare number is the least that can be said."""
    order = (*PATTERN_KINDS[:-1], kind, PATTERN_KINDS[-1])
    return order.index(kind)


def _found(text: str, find: Find, gap: tuple[int, int]) -> Iterable[Finding]:
    first, last = gap
    for one in find(text[first:last]):
        yield Finding(first + one.start, first + one.end, one.kind)


def _between(first: int, last: int, taken: Sequence[Finding]) -> list[tuple[int, int]]:
    """The ranges of [first, last) that none of `taken`, in order and apart, covers."""
    ends = [first, *(one.end for one in taken)]
    starts = [*(one.start for one in taken), last]
    return [(start, end) for start, end in zip(ends, starts, strict=True) if start < end]


def _outside(one: Finding, placeholders: Sequence[Finding]) -> Iterable[Finding]:
    """The parts of a finding between placeholders."""
    touched = [other for other in placeholders if other.start < one.end and one.start < other.end]
    for start, end in _between(one.start, one.end, touched):
        yield Finding(start, end, one.kind)
