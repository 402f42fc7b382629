"""An example with the line of its file where it begins: what every format is read into. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelkit.data.texts import Span

Kind = Literal["classification", "ner"]
CLASSIFICATION: Kind = "classification"
NER: Kind = "ner"


@dataclass(frozen=True)
class LabelRow:
    """A text with the name of its label, and the line of its file where it begins, from 1."""

    line: int
    text: str
    label: str


@dataclass(frozen=True)
class EntityRow:
    """A text with its entities, and the line of its file where it begins, from 1."""

    line: int
    text: str
    spans: tuple[Span, ...]


Row = LabelRow | EntityRow


def kind_of(row: Row) -> Kind:
    """The kind of task that has such examples."""
    return CLASSIFICATION if isinstance(row, LabelRow) else NER
