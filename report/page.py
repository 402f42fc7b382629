"""A report as one self-contained HTML page: warnings, a headline, tables, and charts beside one another.

Owns the page's look and its JavaScript (the page carries plotly's, so that it opens without a network).
Pure: a document in, text out. What stands in it is the callers' matter.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from string import Template

import plotly.io
from plotly.offline import get_plotlyjs

from report.document import Chart, Document, Row, Table
from report.figures import tables_of
from report.look import dot

_MOST_ROWS = 60  # of the figures behind a chart: more than that nobody listens to
_MANY_COLUMNS = 6

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { --text: #1c2128; --ground: #f4f5f7; --card: #fff; --line: #e1e4e8; --quiet: #5b6470;
          --warning: #fff4e5; --edge: #f0c987; }
  @media (prefers-color-scheme: dark) {
    :root { --text: #e8eaed; --ground: #14171b; --card: #1d2127; --line: #363c45; --quiet: #a3adb8;
            --warning: #3a2d14; --edge: #7a5c1e; }
    /* The plots are drawn for paper: turned to dark as a whole, with their hues kept. */
    .plotly-graph-div { filter: invert(.88) hue-rotate(180deg); }
  }
  body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--text);
         background: var(--ground); margin: 0 auto; max-width: 1280px; padding: 24px; }
  @media (max-width: 600px) { body { padding: 12px; } }
  h1 { font-size: 24px; margin: 0 0 4px; }
  h2 { font-size: 15px; margin: 0; padding: 14px 18px 0; }
  .about { color: var(--quiet); margin: 0 0 18px; }
  .headline { font-size: 17px; font-weight: 600; margin: 0 0 14px; }
  .card { min-width: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
  .summary { padding: 8px 18px 14px; margin-bottom: 18px; overflow-x: auto; }
  .plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr));
           gap: 18px; }
  .note { color: var(--quiet); font-size: 13px; margin: 0; padding: 0 18px; }
  .warning { background: var(--warning); border: 1px solid var(--edge); border-radius: 8px; padding: 8px 14px;
             margin: 0 0 14px; }
  table { border-collapse: collapse; }
  caption { text-align: left; font-weight: 600; padding-top: 10px; }
  footer { color: var(--quiet); font-size: 13px; margin-top: 18px; overflow-wrap: anywhere; }
  th, td { padding: 3px 28px 3px 0; text-align: right; font-variant-numeric: tabular-nums;
           white-space: nowrap; }
  .wide th, .wide td { padding-right: 20px; }
  tbody th, th:first-child { text-align: left; font-weight: normal; color: var(--quiet); }
  thead th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
  tr.quiet { color: var(--quiet); }
  .notes { padding: 10px 0 0; }
  .broad { grid-column: 1 / -1; overflow-x: auto; }
  details { padding: 0 18px 12px; font-size: 13px; }
  summary { color: var(--quiet); cursor: pointer; }
  .figures { max-height: 320px; overflow: auto; }
  .dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; }
</style>
<script>$plotlyjs</script>
</head>
<body>
<h1>$title</h1>
<p class="about">$about</p>
$warnings
$headline
<div class="card summary" tabindex="0" role="region" aria-label="Table">$tables$notes</div>
<div class="plots">$charts</div>
<footer>$made_by</footer>
</body>
</html>
""")


def as_html(document: Document) -> str:
    """The whole page."""
    return _PAGE.substitute(
        title=html.escape(document.title),
        about=html.escape(document.about),
        warnings=_paragraphs("warning", document.warnings),
        headline=_paragraphs("headline", document.headline),
        tables="".join(_table(table) for table in document.tables),
        notes=_paragraphs("note notes", document.notes),
        charts="".join(_section(chart) for chart in document.charts),
        made_by=html.escape(document.provenance.in_words()),
        plotlyjs=get_plotlyjs(),
    )


def _paragraphs(kind: str, lines: Iterable[str]) -> str:
    return "".join(f'<p class="{kind}">{html.escape(line)}</p>' for line in lines)


def _table(table: Table) -> str:
    colours = ("", *table.colours, *[""] * len(table.heads))
    heads = "".join(
        f'<th scope="col">{dot(colour)}{html.escape(head)}</th>'
        for head, colour in zip(table.heads, colours, strict=False)
    )
    kind = ' class="wide"' if len(table.heads) >= _MANY_COLUMNS else ""
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    body = "".join(_row(row) for row in table.rows)
    return f"<table{kind}>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: Row) -> str:
    first, *rest = row.cells
    cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
    quiet = ' class="quiet"' if row.quiet else ""
    return f'<tr{quiet}><th scope="row">{dot(row.colour)}{html.escape(first)}</th>{cells}</tr>'


def _section(chart: Chart) -> str:
    """A chart with its heading, what is said of it, and the figures behind it."""
    figure = chart.figure
    figure.update_layout(
        template="plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=chart.height_px,
        width=chart.width_px,
        margin={"l": 62, "r": 18, "t": 34, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        font={"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 12},
    )
    if figure.layout.hovermode is None:
        figure.update_layout(hovermode="x unified")
    figure.update_xaxes(title=chart.x_title, rangemode="tozero")
    figure.update_yaxes(title=chart.unit, rangemode="tozero")
    config = {"displayModeBar": False, "responsive": chart.width_px is None}
    body = plotly.io.to_html(figure, config=config, include_plotlyjs=False, full_html=False)
    spoken = html.escape(f"{chart.title}, {chart.unit or chart.x_title}. {chart.said}", quote=True)
    title, broad = html.escape(chart.title, quote=True), " broad" if chart.width_px else ""
    figures = "".join(_table(table) for table in tables_of(chart, _MOST_ROWS))
    return (
        f'<section class="card{broad}"><h2>{title}</h2><p class="note">{html.escape(chart.said)}</p>'
        f'<div role="img" aria-label="{spoken}">{body}</div>'
        f'<details><summary>Figures</summary><div class="figures" tabindex="0" role="region" '
        f'aria-label="Figures: {title}">{figures}</div></details></section>'
    )
