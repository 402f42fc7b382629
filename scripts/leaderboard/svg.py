"""A few marks of SVG. Pure: numbers in, text out. Called by `plots`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

GREY, DARK, PALE = "#8a8f98", "#1c2128", "#e1e4e8"
_FONT = 'font-family="system-ui, \'DejaVu Sans\', sans-serif" font-size="12"'
_CHARACTER = 6.8  # px that one takes at that size, about
# Corners of marks of radius 1; a circle has none.
_CORNERS = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "triangle": ((0, -1.2), (1.15, 0.95), (-1.15, 0.95)),
}


def picture(width: float, height: float, body: Iterable[str]) -> str:
    """The whole file."""
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {_FONT}>\n{paper}\n' + "\n".join(body) + "\n</svg>\n"
    )


def line(points: Sequence[tuple[float, float]], stroke: str, width: float = 1, dashed: bool = False) -> str:
    paint = f'fill="none" stroke="{stroke}" stroke-width="{width:g}"'
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{_pairs(points)}" {paint}{dashes}/>'


def area(points: Sequence[tuple[float, float]], fill: str) -> str:
    return f'<polygon points="{_pairs(points)}" fill="{fill}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", fill: str = DARK, weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}">'
        f"{html.escape(words)}</text>"
    )


def mark(x: float, y: float, shape: str, size: float, colour: str, *, hollow: bool) -> str:
    """A circle, or a shape of `_CORNERS`."""
    paint = f'fill="{"white" if hollow else colour}" stroke="{colour}" stroke-width="1.5"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {paint}/>'
    corners = [(x + size * dx, y + size * dy) for dx, dy in _CORNERS[shape]]
    return f'<polygon points="{_pairs(corners)}" {paint}/>'


def text_width(words: str) -> float:
    """px, about."""
    return _CHARACTER * len(words)


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
