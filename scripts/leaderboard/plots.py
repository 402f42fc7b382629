"""The leaderboard's pictures as SVG, small enough to be kept with the document.

Pure: a board in, SVG text out. Two kinds: joules over the optimum's by trace, and replicas over time.
Called by `__main__`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from minwatt.commands.backtest_document import look
from minwatt.commands.backtest_result import MINWATT, OPTIMUM
from scripts.leaderboard.board import Filled
from scripts.leaderboard.svg import DARK, GREY, PALE, area, line, mark, picture, text, text_width

_WIDTH, _LEFT, _RIGHT = 880, 250, 30
_ROW, _HEAD = 30, 34  # px of a row; of the title
_LEGEND_ROW = 20
_CURVES_HEIGHT, _CURVES_LEFT = 240, 60
_FILL = 0.95  # of the height that the highest value takes
_MOST_RATIO = 8.0  # at the right edge; what is beyond stands there
_RATIO_TICKS = (1, 1.5, 2, 3, 4, 6, 8)
_CURVES = ("static", "hpa", "keda-rate", OPTIMUM, MINWATT)  # the last lies on top
# Variants of a law have its colour, and a shape of their own.
_SHAPES = {"-slack": "square", "-tuned": "diamond", "-bounded": "triangle", "-slow": "square"}
_TIME_UNITS = ((72, 1 / 24, "d"), (2, 1, "h"), (0, 60, "min"))  # from so many hours on: units an hour


def ratios(runs: Sequence[Filled], title: str) -> str:
    """A row a trace, a mark a contender: joules over the optimum's; hollow where the SLO is missed."""
    shown = [name for name in _names(runs) if name != OPTIMUM]
    key, top = _legend(shown, lambda name, x, y: [_ratio_mark(x + 8, y - 4, name, hollow=False)])
    height = top + _ROW * len(runs) + 34
    body = [text(10, 20, f"{title} (hollow: misses the SLO)", weight="600"), *key]
    for ratio in _RATIO_TICKS:
        x = _ratio_x(ratio)
        body.append(line([(x, top), (x, height - 30)], PALE))
        body.append(text(x, height - 14, f"{ratio:g} ×", anchor="middle", fill=GREY))
    for index, one in enumerate(runs):
        y = top + _ROW * (index + 0.5)
        body.append(text(_LEFT - 14, y + 4, one.cell.trace, anchor="end"))
        body.extend(
            _ratio_mark(_ratio_x(row.ratio_to_optimum), y, row.name, hollow=not row.keeps_slo)
            for row in sorted(one.result.contenders, key=lambda row: row.name == MINWATT)
            if row.ratio_to_optimum is not None and row.name != OPTIMUM
        )
    return picture(_WIDTH, height, body)


def replicas(one: Filled, title: str) -> str:
    """Ready replicas of some contenders over the trace, the offered load behind them."""
    names = [name for name in _CURVES if name in one.kept]
    key, top = _legend(names, _curve_key)
    first, base = one.kept[names[0]], top + _CURVES_HEIGHT
    points = len(first.arrivals_rps)
    most = max((value for name in names for value in one.kept[name].replicas if value is not None), default=1)
    hours = points * first.span_s / 3600

    def at(index: float, value: float, highest: float) -> tuple[float, float]:
        x = _CURVES_LEFT + (_WIDTH - _CURVES_LEFT - _RIGHT) * index / points
        return x, base - _FILL * _CURVES_HEIGHT * value / highest

    body = [text(10, 20, title, weight="600"), *key]
    peak = max((value for value in first.arrivals_rps if value is not None), default=0) or 1
    for part in _stretches(first.arrivals_rps):
        outline = [at(index, value, peak) for index, value in part]
        body.append(area([(outline[0][0], base), *outline, (outline[-1][0], base)], "#eef0f3"))
    for tick in _ticks(most):
        x, y = at(0, tick, most)
        body.append(line([(x, y), (_WIDTH - _RIGHT, y)], PALE))
        body.append(text(x - 8, y + 4, f"{tick:g}", anchor="end", fill=GREY))
    for name in names:
        own, dash = look(name)
        for part in _stretches(one.kept[name].replicas):
            curve = [at(index, value, most) for index, value in part]
            body.append(line(curve, own, 2.2 if name == MINWATT else 1.3, dashed=dash != "solid"))
    units, unit = next((units, unit) for least, units, unit in _TIME_UNITS if hours >= least)
    for tick in _ticks(hours * units):
        x, _ = at(points * tick / (hours * units), 0, 1)
        body.append(text(x, base + 18, f"{tick:g} {unit}", anchor="middle", fill=GREY))
    body.append(text(_WIDTH - _RIGHT, base + 36, "shaded: offered load", anchor="end", fill=GREY))
    return picture(_WIDTH, base + 46, body)


def _names(runs: Sequence[Filled]) -> list[str]:
    return list(dict.fromkeys(row.name for one in runs for row in one.result.contenders))


def _ratio_x(ratio: float) -> float:
    """Logarithmic from 1 to the right edge."""
    share = math.log(min(max(ratio, 1.0), _MOST_RATIO)) / math.log(_MOST_RATIO)
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _ratio_mark(x: float, y: float, name: str, *, hollow: bool) -> str:
    shape = next((shape for suffix, shape in _SHAPES.items() if name.endswith(suffix)), "circle")
    return mark(x, y, shape, 6.5 if name == MINWATT else 4.5, look(name)[0], hollow=hollow)


def _curve_key(name: str, x: float, y: float) -> list[str]:
    own, dash = look(name)
    return [line([(x, y - 4), (x + 16, y - 4)], own, 3, dashed=dash != "solid")]


def _legend(names: Sequence[str], key: Callable[[str, float, float], list[str]]) -> tuple[list[str], float]:
    """(its parts, where the plot begins below it)."""
    body: list[str] = []
    x, y = 10.0, _HEAD + 8.0
    for name in names:
        if x + 22 + text_width(name) > _WIDTH - 10:
            x, y = 10.0, y + _LEGEND_ROW
        body += [*key(name, x, y), text(x + 22, y, name, fill=DARK)]
        x += 40 + text_width(name)
    return body, y + _LEGEND_ROW


def _ticks(most: float) -> list[float]:
    """From 0, at most nine, at round numbers."""
    steps = (size * 10.0**power for power in range(-3, 9) for size in (1, 2, 5))
    step = next((step for step in steps if most / step <= 8), most or 1.0)
    return [round(index * step, 6) for index in range(int(most / step + 1e-9) + 1)]


def _stretches(values: Sequence[float | None]) -> Iterable[list[tuple[int, float]]]:
    """With data: (index, value)."""
    part: list[tuple[int, float]] = []
    for index, value in enumerate([*values, None]):
        if value is not None:
            part.append((index, value))
        elif part:
            yield part
            part = []
