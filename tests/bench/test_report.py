"""The JSON's shape: what other programs read from a benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.serving.figures import AIMS, MACHINE, summarise
from bench.serving.report import as_json, as_markdown
from bench.serving.run import Measured, Plan
from tests.bench.test_figures import a_full_round

MACHINE_FACTS, VERSIONS = {"cores": "2"}, {"python": "3.11"}


@pytest.fixture
def measured() -> Measured:
    rounds = [a_full_round(speed) for speed in (1.0, 0.5)]
    return Measured(Plan(Path("models/m")), rounds, 200.0, {"p50": 15.0}, {"unary": 60.0})


def test_ratios_are_numbers_by_the_names_that_are_aimed_for(measured: Measured) -> None:
    summary = summarise(measured.rounds)
    data = json.loads(json.dumps(as_json(measured, summary, "a command", MACHINE_FACTS, VERSIONS)))
    assert set(data["ratios"]) == set(data["spreads"]) == {aim.ratio for aim in AIMS}
    for name, spread in data["spreads"].items():
        assert spread["least"] <= data["ratios"][name] <= spread["most"]
        assert spread["rounds"] == 2
    assert data["padding_fraction"] == pytest.approx(0.05)
    assert data["rss_mib"] == 200.0
    again = {name: asdict(found) for name, found in summarise(data["rounds"]).ratios.items()}
    assert again == data["spreads"]  # the raw rounds lead to the same figures


@pytest.mark.parametrize(("others", "quiet"), [(0.01, True), (0.6, False)])
def test_a_page_of_a_busy_machine_says_so(measured: Measured, others: float, quiet: bool) -> None:
    rounds = [{**one, MACHINE: {"others_fraction": others}} for one in measured.rounds]
    page = as_markdown(measured, summarise(rounds), "a command", MACHINE_FACTS, VERSIONS)
    assert ("was not quiet" in page) is not quiet
    assert f"took {others:.0%} of the cores" in page


def test_the_page_says_what_is_met_and_what_is_not_measured(measured: Measured) -> None:
    met = as_markdown(measured, summarise(measured.rounds), "a command", MACHINE_FACTS, VERSIONS)
    assert "| met |" in met
    assert "not measured" not in met
    nothing = Measured(measured.plan, [{}], 300.0, {}, {})
    page = as_markdown(nothing, summarise([{}]), "a command", MACHINE_FACTS, VERSIONS)
    assert "not measured" in page
    assert "| missed |" in page  # of memory
