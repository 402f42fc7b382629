"""A panel, a row, a dashboard: as values, and as the JSON that Grafana imports. Pure.

Owns layout and what a kind of panel needs. Leaves what is shown to `rows`. Called by `__main__`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = 39  # Grafana 10.4 and newer
WIDTH = 24  # columns of Grafana's grid
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["s", "watt", "joule", "reqps", "hertz", "percentunit", "bool_yes_no", "short", "none", "bytes"]
Kind = Literal["timeseries", "stat", "heatmap", "state-timeline"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """`bound`: drawn as a dashed line, for what others are to stay below or above."""

    expr: str
    legend: str
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """`steps`: from which value on it is yellow, then red, where a colour means something."""

    title: str
    says: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    steps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def dashboard(rows: Sequence[Row]) -> Json:
    return {
        "uid": "minwatt",
        "title": "minwatt",
        "description": "Is the SLO held, at how many watts, and what does the controller do about it?",
        "tags": ["minwatt"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "panels": list(_laid_out(rows)),
    }


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    known = "minwatt_scaler_replicas_max"  # one series a policy
    for name, query in (
        ("namespace", f"label_values({known}, namespace)"),
        ("policy", f'label_values({known}{{namespace=~"$namespace"}}, policy)'),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,  # when the time range changes
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        }


def _laid_out(rows: Sequence[Row]) -> Iterator[Json]:
    """Left to right, then down; ids count on."""
    top, number = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
        }
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            grid = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": grid} | _panel(panel)
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel) -> Json:
    heatmap = panel.kind == "heatmap"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "format": "heatmap" if heatmap else "time_series",
            "range": True,
        }
        for index, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> Json:
    found: Json = {"unit": panel.unit}
    if panel.unit != "short" and panel.kind != "heatmap":
        found["min"] = 0
    if panel.steps:
        colours = ("yellow", "red") if len(panel.steps) > 1 else ("red",)
        steps: list[Json] = [{"color": "green", "value": None}]
        steps += [{"color": colour, "value": at} for colour, at in zip(colours, panel.steps, strict=True)]
        found["thresholds"] = {"mode": "absolute", "steps": steps}
        found["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        found["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 40 if panel.stacked else 5,
            "stacking": stacking,
            "showPoints": "never",
            "spanNulls": False,  # what is unknown is a gap
        }
    return found


def _overrides(panel: Panel) -> Iterator[Json]:
    """Bounds are dashed, unfilled and never part of a stack."""
    for index, query in enumerate(panel.queries):
        if query.bound:
            yield {
                "matcher": {"id": "byFrameRefID", "options": chr(ord("A") + index)},
                "properties": [
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "custom.stacking", "value": {"mode": "none"}},
                ],
            }


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"}
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "yAxis": {"unit": panel.unit},
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "tooltip": {"mode": "single", "yHistogram": True},
        }
    if panel.kind == "state-timeline":
        return {
            "mergeValues": True,
            "showValue": "never",
            "legend": {"displayMode": "list", "placement": "bottom"},
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
