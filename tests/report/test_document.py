"""Laws of a report: one value in three forms, no watt without its source, nothing that is read as markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.document import LIMIT, Chart, Document, Row, Table, as_json
from report.figures import said, tables_of
from report.markdown import as_markdown
from report.page import as_html
from report.provenance import Provenance, provenance
from tests.report.made import MADE_BY


def chart(*curves: go.Scatter | go.Bar, unit: str = "ms", **more: object) -> Chart:
    return Chart(go.Figure(list(curves)), "A title", unit, **more)


def document(**more: object) -> Document:
    fields = {
        "title": "Title",
        "about": "About.",
        "tables": [Table(("", "A"), [Row(("p99", "3 ms"))], "Caption")],
        "charts": [chart(go.Scatter(x=[1.0, 2.0], y=[3.0, None], name="one"), note="A note.")],
        "data": {"p99_ms": 3.0},
        "provenance": MADE_BY,
    }
    return Document(**(fields | more))  # type: ignore[arg-type]


class _Page(HTMLParser):
    """What a reader is shown, and the tags that are open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.open, self.tags, self._silent = "", [], [], False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self._silent = tag in {"script", "style"}
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words += data


def read(page: str) -> _Page:
    found = _Page()
    found.feed(page)
    return found


def test_one_value_in_three_forms() -> None:
    found = document()
    page, text = read(as_html(found)), as_markdown(found)
    for words in (
        "Title",
        "About.",
        "Caption",
        "3 ms",
        "A title",
        "A note.",
        "minwatt test",
        "watts: modelled",
    ):
        assert words in page.words
        assert words in text
    assert page.open == []
    assert json.loads(as_json(found)) == {"p99_ms": 3.0, "provenance": MADE_BY.model_dump(mode="json")}
    assert Provenance.model_validate(json.loads(as_json(found))["provenance"]) == MADE_BY


def test_the_page_opens_without_a_network() -> None:
    page = as_html(document())
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_figures_stand_behind_every_chart_for_who_sees_no_picture() -> None:
    page = as_html(document())
    assert "details" in read(page).tags
    assert re.search(r'role="img" aria-label="A title, ms. A note."', page)
    assert 'aria-label="Figures: A title"' in page


@settings(max_examples=5, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_no_words_are_read_as_markup(words: str) -> None:
    evil = f"</script><b>{words}|"
    row = Row((evil, evil))
    named = go.Scatter(x=[0.0], y=[1.0], text=[evil], name=evil)
    found = document(
        title=evil, about=evil, notes=[evil], warnings=[evil], tables=[Table((evil, evil), [row], evil)],
        charts=[chart(named, note=evil)],
    )  # fmt: skip
    page = read(as_html(found))
    assert page.open == []
    assert "b" not in page.tags
    text = as_markdown(found)
    assert "<" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in rows)


@pytest.mark.parametrize("unit", ["W", "J", "kWh", "MWh", "kJ", "J a 1,000 texts"])
def test_no_watt_without_its_source(unit: str) -> None:
    with pytest.raises(ValueError, match="watts without their source"):
        chart(unit=unit)
    with pytest.raises(ValueError, match="watts without their source"):
        chart(unit="", x_title=unit)
    assert chart(unit=unit, watts="nvml").said == "Watts: nvml."


def test_curves_on_one_axis_are_columns() -> None:
    curves = [go.Scatter(x=[0.0, 1.0], y=np.array([y, np.nan], np.float32), name=str(y)) for y in (1.5, 2.5)]
    limit = go.Scatter(x=[0.0, 9.0], y=[50.0, 50.0], name="SLO 50 ms", meta=LIMIT)
    (table,) = tables_of(chart(*curves, limit), 10)
    assert table.heads == ("seconds from the start", "1.5", "2.5")
    assert [row.cells for row in table.rows] == [("0", "1.5", "2.5"), ("1", "–", "–")]
    assert table.caption == "ms; SLO 50 ms"


def test_curves_on_axes_of_their_own_are_rows_and_events_a_table() -> None:
    curves = [go.Scatter(x=[float(x)], y=[x + 0.5], name=f"of {x}") for x in (1, 2)]
    event = go.Scatter(x=[7.0], y=[1.0], text=["up: 1 → 2"], name="decisions")
    points, events = tables_of(chart(*curves, event), 10)
    assert [row.cells for row in points.rows] == [("of 1", "1", "1.5"), ("of 2", "2", "2.5")]
    assert [row.cells for row in events.rows] == [("7", "up: 1 → 2")]


def test_intervals_that_are_drawn_are_told() -> None:
    bar = go.Bar(x=[5.0], y=["p99"], orientation="h", error_x={"array": [2.0], "arrayminus": [1.0]}, name="B")
    (table,) = tables_of(chart(bar, unit="", x_title="% of A"), 10)
    assert [row.cells for row in table.rows] == [("p99", "5 [4, 7]")]
    point = go.Scatter(x=[3.0], y=[0.5], name="int8", error_x={"array": [1.0]}, error_y={"array": [0.1]})
    (table,) = tables_of(chart(point, unit="accuracy"), 10)
    assert [row.cells for row in table.rows] == [("int8", "3 [2, 4]", "0.5 [0.4, 0.6]")]


@given(st.integers(1, 400), st.integers(1, 60))
def test_long_tables_are_thinned_and_say_so(points: int, most: int) -> None:
    whole = Table(("x", "y"), [Row((str(x), "")) for x in range(points)], "ms")
    (table,) = tables_of(chart(table=whole), most)
    assert len(table.rows) <= most
    assert table.rows[0] == whole.rows[0]
    assert (table.caption == "ms") == (points <= most) == (len(table.rows) == points)


@given(st.floats())
def test_a_figure_has_no_exponent_above_one(value: float) -> None:
    assert ("e" in said(value)) == (0 < abs(value) < 1e-4)


def test_what_made_it_is_told() -> None:
    found = provenance("nvml")
    assert found.versions.keys() >= {"minwatt", "python", "onnxruntime", "numpy"}
    assert found.machine.cores is not None
    line = found.in_words()
    assert "\n" not in line
    assert line.endswith("watts: nvml")
    assert "watts" not in provenance(None).in_words()
