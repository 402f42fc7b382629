"""docs/finetune.md is right: its examples can be read, and it names every option with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from modelkit.cli import app
from modelkit.data.formats import read_rows
from modelkit.data.rows import EntityRow, LabelRow

PAGE = (Path(__file__).parents[2] / "docs" / "finetune.md").read_text(encoding="utf-8")
# Under "Formats": a paragraph that names the suffix, then the example.
EXAMPLES = re.findall(
    r"^(Classification|Entities), `(\.\w+)`.*?```\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize(("kind", "suffix", "content"), EXAMPLES)
def test_every_example_is_read(tmp_path: Path, kind: str, suffix: str, content: str) -> None:
    file = tmp_path / f"train{suffix}"
    file.write_text(content)
    rows = read_rows(file)
    expected = LabelRow if kind == "Classification" else EntityRow
    assert {type(row) for row in rows} == {expected}
    assert all(row.spans for row in rows if isinstance(row, EntityRow))


def test_there_is_an_example_of_each_format() -> None:
    assert [suffix for _, suffix, _ in EXAMPLES] == [".jsonl", ".csv", ".jsonl", ".jsonl", ".conll"]


def test_every_option_is_named_with_its_default() -> None:
    command = typer.main.get_command(app).commands["finetune"]  # type: ignore[attr-defined]
    table = PAGE[PAGE.index("| option |") :]
    rows = {
        option: row.split("|")[2].strip().split(", ")
        for row in table.splitlines()
        for option in re.findall(r"`(--[a-z-]+)", row.split("|")[1] if "|" in row else "")
    }
    for parameter in command.params:
        assert parameter.opts[-1] in rows, parameter.name
        if isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool):
            given = [float(cell) for cell in rows[parameter.opts[-1]]]
            assert float(parameter.default) in given, parameter.name
    assert len(rows) == len(command.params)
