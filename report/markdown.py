"""A report as Markdown: what the page says, with charts as the figures behind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from report.document import Document, Table
from report.figures import tables_of

_MOST_ROWS = 12  # of a chart's figures: a text is read whole, the page and the JSON have the rest


def as_markdown(document: Document) -> str:
    """The whole text. What would be read as a table's edge or a tag is escaped."""
    blocks = [f"# {_plain(document.title)}", _plain(document.about)]
    blocks += [f"> {_plain(line)}" for line in document.warnings]
    blocks += [f"**{_plain(line)}**" for line in document.headline]
    for table in document.tables:
        blocks += _table(table, "## ")
    if document.notes:
        blocks.append("\n".join(f"- {_plain(line)}" for line in document.notes))
    for chart in (one for one in document.charts if not one.tabled):
        blocks += [f"## {_plain(chart.title)}", _plain(chart.said)]
        for table in tables_of(chart, _MOST_ROWS):
            blocks += _table(table, "")
    blocks += ["---", _plain(document.provenance.in_words())]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(table: Table, heading: str) -> Iterable[str]:
    if table.caption:
        yield f"{heading}{_plain(table.caption)}"
    edge = "|---" + "|---:" * (len(table.heads) - 1) + "|"
    yield "\n".join([_line(table.heads), edge, *(_line(row.cells) for row in table.rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
