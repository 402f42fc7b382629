"""Which files of this repository a module's code is in: its own, and those of all that it imports.

Read from the source, without running it; names of other packages count nothing. Called by `runs`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files_of(modules: Collection[str], without: Collection[str] = ()) -> frozenset[Path]:
    """Of the modules and of what they import, and so on. What is imported by `without` alone is left out too.

    A package's `__init__` counts where it is imported by its own name.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = _file(name)
        if name in found or name in without or file is None:
            continue
        found[name] = file
        waiting += _imported(file)
    return frozenset(found.values())


@cache
def _imported(file: Path) -> frozenset[str]:
    return frozenset(_named(ast.parse(file.read_text(encoding="utf-8"))))


def _named(tree: ast.Module) -> Iterator[str]:
    """`from a import b` names the module a, and a.b in case that it is one. There are no relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


@cache
def _file(module: str) -> Path | None:
    """None: not a module of this repository."""
    path = ROOT.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)
