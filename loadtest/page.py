"""One self-contained HTML page: a title, warnings, a headline, a table, and plots beside one another.

Owns the page's look and its JavaScript (the page carries plotly's, so that it opens without a network).
Pure: pieces in, text out. What they show is the callers' matter: `loadtest.html`, `minwatt backtest`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8a8f98"
SLO_COLOUR = "#b00020"
_PLOT_HEIGHT_PX = 290

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
  th:first-child { text-align: left; font-weight: normal; color: var(--quiet); }
  thead th { font-weight: 600; border-bottom: 2px solid var(--line); }
  .dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; }
</style>
<script>$plotlyjs</script>
</head>
<body>
<h1>$title</h1>
<p class="about">$about</p>
$warnings
$headline
<div class="card summary" tabindex="0" role="region" aria-label="Table">$table</div>
<div class="plots">$plots</div>
<footer>$made_by</footer>
</body>
</html>
""")


@dataclass(frozen=True, slots=True)
class Pieces:
    """What stands on a page. `table` is HTML, `plots` are `section`s; the rest is plain text."""

    title: str
    about: str
    table: str
    plots: Sequence[str]
    warnings: Sequence[str] = ()
    headline: Sequence[str] = ()
    made_by: str = ""  # the command and the versions, as `provenance` tells them


def page(pieces: Pieces) -> str:
    """The whole page."""
    return _PAGE.substitute(
        title=html.escape(pieces.title),
        about=html.escape(pieces.about),
        warnings="".join(f'<p class="warning">{html.escape(line)}</p>' for line in pieces.warnings),
        headline="".join(f'<p class="headline">{html.escape(line)}</p>' for line in pieces.headline),
        table=pieces.table,
        plots="".join(pieces.plots),
        made_by=html.escape(pieces.made_by),
        plotlyjs=get_plotlyjs(),
    )


def colour(index: int) -> str:
    """Of the run that stands at `index`, the same in every plot and table."""
    return _COLOURS[index % len(_COLOURS)]


def dot(css_colour: str) -> str:
    """HTML: a dot, to stand before the name of what has that colour in the plots."""
    return f'<span class="dot" style="background:{css_colour}"></span>'


def section(
    figure: go.Figure, title: str, unit: str, note: str, x_title: str = "seconds from the start"
) -> str:
    """A plot with its heading and a line below it, as HTML."""
    figure.update_layout(
        template="plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=_PLOT_HEIGHT_PX,
        margin={"l": 62, "r": 18, "t": 34, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hovermode="x unified",
        font={"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 12},
    )
    figure.update_xaxes(title=x_title, rangemode="tozero")
    figure.update_yaxes(title=unit, rangemode="tozero")
    config = {"displayModeBar": False, "responsive": True}
    body = plotly.io.to_html(figure, config=config, include_plotlyjs=False, full_html=False)
    heading = f'<h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>'
    spoken = html.escape(f"{title}, {unit or x_title}. {note}", quote=True)
    return f'<section class="card">{heading}<div role="img" aria-label="{spoken}">{body}</div></section>'
