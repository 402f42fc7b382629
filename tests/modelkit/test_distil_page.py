"""docs/distil.md names every option of `model distil`."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from modelkit.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "distil.md").read_text(encoding="utf-8")


def test_every_option_is_named_and_none_that_is_not_there() -> None:
    command = typer.main.get_command(app).commands["distil"]  # type: ignore[attr-defined]
    table = PAGE[PAGE.index("| option |") :]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    assert named == {parameter.opts[-1] for parameter in command.params if parameter.opts[-1] != "teacher"}
