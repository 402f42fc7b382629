"""A model directory of its own for a run that writes to it: a tiny model, or a copy of one that is given.

Called by `chaos` and `soak`; `model_changes` makes versions of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.questions import AnyText, packaged_text, tiny_model_text
from minwatt.v1.model_dir import ModelDirectory
from tests.tiny_model import write_tiny_model


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    path: Path
    task: str  # the first one's name
    any_text: AnyText  # that it is good for
    write: Callable[[str], None]  # whole, as the version that is given

    @classmethod
    def of(cls, model: Path | None, folder: Path) -> WorkingCopy:
        """Within `folder`; None: of the tiny model. Raises UsageError."""
        if model is None:
            path = write_tiny_model(folder / "tiny-text")
            any_text: AnyText = tiny_model_text
            write = partial(_write_tiny_model, path)
        else:
            spec = ModelDirectory.open(model).spec
            path = folder / spec.name
            any_text = packaged_text
            write = partial(_copy, model, path)
            write(spec.version)
        return cls(path, ModelDirectory.open(path).spec.tasks[0].name, any_text, write)


def _write_tiny_model(path: Path, version: str) -> None:
    write_tiny_model(path, version=version)


def _copy(model: Path, path: Path, version: str) -> None:
    shutil.copytree(model, path, dirs_exist_ok=True)
    directory = ModelDirectory.open(path)
    ModelDirectory(path, directory.spec.model_copy(update={"version": version})).save()
