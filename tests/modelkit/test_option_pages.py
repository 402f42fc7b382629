"""The pages' tables name every option of their commands, and docs/quantize.md every scheme."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from minwatt.commands.model import app
from modelkit.compress.catalogue import CATALOGUE, DEFAULT

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "page", "heading"),
    [
        ("quantize", "quantize.md", "Options"),
        ("export", "export.md", "Options"),
        ("mask", "mask.md", "Options"),
        ("build", "models.md", "Options of a build"),
        ("evaluate", "models.md", "Scores"),
        ("choose", "card.md", "Choosing"),
    ],
)
def test_every_option_is_named(name: str, page: str, heading: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `--")]
    named = {option for row in rows for option in re.findall(r"--[a-z][a-z0-9-]*", row)}
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options = [parameter for parameter in command.params if parameter.opts[0].startswith("--")]
    assert {option for one in options for option in (*one.opts, *one.secondary_opts)} == named


def test_every_scheme_is_described_and_the_default_ones_marked() -> None:
    page = (DOCS / "quantize.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`(\*?) \|", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(CATALOGUE)
    assert {name for name, star in rows if star} == set(DEFAULT)
