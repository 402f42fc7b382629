"""Colours that every chart and table shares.

Called by whoever draws.
"""

from __future__ import annotations

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8a8f98"
SLO_COLOUR = "#b00020"
BETTER, WORSE = "#009E73", "#D55E00"
# Of a logarithmic axis: 1, 2, 5 and their tens.
LOG_TICKS = [step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5)]


def colour(index: int) -> str:
    """Of the run that stands at `index`, the same in every chart and table."""
    return _COLOURS[index % len(_COLOURS)]


def dot(css_colour: str) -> str:
    """HTML: a dot, to stand before the name of what has that colour in the charts; nothing of no colour."""
    return f'<span class="dot" style="background:{css_colour}"></span>' if css_colour else ""
