"""What a task's owner should know of its data before training: no mistakes, but scores may flatter.

Pure. Called by `dataset` and `checks`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from modelkit.data.lines import listed
from modelkit.data.rows import LabelRow, Row


def notes_on(rows: Mapping[str, Sequence[Row]], labels: Sequence[str], besides: str) -> Iterator[str]:
    """One line on each thing that makes scores better than they are, or training worse, than it seems.

    `besides`: the split that is only trained on, with the first, and not scored.
    """
    first: dict[str, tuple[str, Row]] = {}
    for split, those in rows.items():
        repeated: list[Row] = []
        conflicting: list[tuple[Row, Row]] = []
        leaked: list[tuple[Row, str, Row]] = []
        for row in those:
            there, earlier = first.setdefault(folded(row.text), (split, row))
            if earlier is row:
                continue
            if there != split:
                leaked.append((row, there, earlier))
            elif _answer(row) == _answer(earlier):
                repeated.append(row)
            else:
                conflicting.append((row, earlier))
        if repeated:
            yield f"{split}: {len(repeated)} examples are repeated, the first in line {repeated[0].line}"
        if conflicting:
            one, other = conflicting[0]
            yield (
                f"{split}: {len(conflicting)} texts have another answer than above, the first in lines "
                f"{other.line} and {one.line}"
            )
        if leaked:
            one, there, other = leaked[0]
            yield (
                f"{split}: {len(leaked)} texts are in an earlier split too, the first in line {one.line} "
                f"and in line {other.line} of {there}: "
                + ("they count twice in training" if split == besides else f"scores on {split} flatter")
            )
        if split == besides:
            continue
        missing = sorted(set(labels).difference(label for row in those for label in labels_of(row)))
        if missing:
            yield f"{split}: no example of {len(missing)} of {len(labels)} labels: {listed(missing)}"
    yield from _look_alikes(labels)


def _look_alikes(labels: Sequence[str]) -> Iterator[str]:
    """Labels that only case or spaces tell apart: most often one label, written in two ways."""
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(folded(label), label)
        if other is not label:
            yield f"labels {other!r} and {label!r} differ in case or spaces alone: two labels"


def labels_of(row: Row) -> Sequence[str]:
    return (row.label,) if isinstance(row, LabelRow) else [span.label for span in row.spans]


def folded(text: str) -> str:
    """The same for texts that case, spaces or the composition of their characters alone tell apart.

    An encoder that knows small letters only reads them as one, and a person as hardly more.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _answer(row: Row) -> object:
    if isinstance(row, LabelRow):
        return row.label
    places = ((len(folded(row.text[: span.start])), len(folded(row.text[: span.end]))) for span in row.spans)
    return [(*place, span.label) for place, span in zip(places, row.spans, strict=True)]
