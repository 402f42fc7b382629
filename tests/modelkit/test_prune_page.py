"""docs/prune.md names every option of the command, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from modelkit.cli import app
from modelkit.compress.prune_options import MOST
from modelkit.compress.prune_speed import ROUNDS

PAGE = (Path(__file__).parents[2] / "docs" / "prune.md").read_text(encoding="utf-8")


def test_every_option_is_named_with_its_default() -> None:
    command = typer.main.get_command(app).commands["prune"]  # type: ignore[attr-defined]
    rows = {
        option: row.split("|")[2].strip().split(", ")
        for row in PAGE[PAGE.index("| option |") :].splitlines()
        if row.startswith("| `--")
        for option in re.findall(r"`(--[a-z-]+)", row.split("|")[1])
    }
    options = [parameter for parameter in command.params if isinstance(parameter, typer.core.TyperOption)]
    for parameter in options:
        assert parameter.opts[-1] in rows, parameter.name
        if isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool):
            given = [float(cell) for cell in rows[parameter.opts[-1]] if re.fullmatch(r"[\d.]+", cell)]
            assert float(parameter.default) in given, parameter.name
    assert len(rows) == len(options)


def test_its_figures_are_the_code_s() -> None:
    assert f"up to {MOST}" in PAGE
    assert ROUNDS == 9
    assert "Nine rounds" in PAGE
