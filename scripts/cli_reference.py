"""Writes docs/reference/cli.md: every command with its options, by typer's own writer of such pages.

    python -m scripts.cli_reference

A test fails when the page is stale. Called by people after a change of an option.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from minwatt.cli import COMMANDS

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
_HEAD = """# Commands

Written by `python -m scripts.cli_reference` from the commands themselves. Each has `--help`.

Exit codes: 0 good, 1 the job ran and the answer is bad, 2 bad usage, 130 stopped by Ctrl-C before there was
an answer, 141 who read the output left (`| head`).

"""


def page() -> str:
    sections = [_section(name) for name in COMMANDS]
    return _HEAD + "\n".join(sections)


def _section(name: str) -> str:
    module, attribute, _ = COMMANDS[name]
    app = getattr(importlib.import_module(module), attribute)
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer(add_completion=False)
        app.command()(function)
    command = get_command(app)
    written = get_docs_for_click(obj=command, ctx=typer.Context(command), name=f"minwatt {name}")
    text = re.sub(r"^(#+) `(.*)`$", r"#\1 \2", written, flags=re.MULTILINE)  # the page has its title already
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE}\n")
