"""A report as values: what is said, which tables stand in it, what is drawn.

Owns the shape alone. `page`, `markdown` and `as_json` here turn the same value into the three forms; what
stands in it is the callers' matter. Pure. Called by whatever reports: `loadtest`, `modelkit`, the commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from report.provenance import Provenance

LIMIT = "limit"  # `meta` of a curve that only marks a limit, as the SLO's line: its name says all of it
_WATTS = re.compile(r"(W|k?J|[kM]?Wh)\b")


@dataclass(frozen=True, slots=True)
class Row:
    """`cells`: the first says what the row is about. `colour`: of its curves. `quiet`: counts for less."""

    cells: Sequence[str]
    colour: str = ""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`colours`: of the columns after the first, where they are what has curves."""

    heads: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    colours: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure with what is to be said of it.

    `unit`: of the vertical axis; empty where the horizontal one has the figures. `watts`: the source of watts
    and joules; without it a chart of them is a ValueError. `table`: for readers who see no picture, instead
    of the one that `figures` reads off the curves. `tabled`: its figures stand in a table of the report, and
    Markdown leaves the chart out. `width_px`: None fills its place.
    """

    figure: Any
    title: str
    unit: str
    note: str = ""
    x_title: str = "seconds from the start"
    watts: str = ""
    table: Table | None = None
    tabled: bool = False
    height_px: int = 290
    width_px: int | None = None

    def __post_init__(self) -> None:
        if not self.watts and (_WATTS.match(self.unit) or _WATTS.match(self.x_title)):
            raise ValueError(f"{self.title}: watts without their source")

    @property
    def said(self) -> str:
        """The note, and where watts are from."""
        return " ".join(part for part in (self.note, self.watts and f"Watts: {self.watts}.") if part)


@dataclass(frozen=True, slots=True)
class Document:
    """A report. `data`: its JSON's keys and values but for the provenance. All text is plain."""

    title: str
    about: str
    tables: Sequence[Table]
    charts: Sequence[Chart]
    data: Mapping[str, object]
    provenance: Provenance
    warnings: Sequence[str] = ()
    headline: Sequence[str] = ()
    notes: Sequence[str] = ()


def as_json(document: Document) -> str:
    """`data`, and one more key: `provenance`."""
    found = {**document.data, "provenance": document.provenance.model_dump(mode="json")}
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)


def data_of(model: BaseModel) -> dict[str, object]:
    """A schema's values as its JSON has them (NaN is null), without what `as_json` adds."""
    found: dict[str, object] = json.loads(model.model_dump_json(exclude={"provenance"}))
    return found
