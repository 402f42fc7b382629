"""Writes a model directory all at once: new files gather apart and replace the old ones at the end.

Owns `DIR/.cache/new`, on the same disk as DIR. Leaves what is written to its callers, `build` and `package`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE


@dataclass(frozen=True)
class Staging:
    """A model directory `out`, and what is to be in it."""

    out: Path

    @property
    def cache(self) -> Path:
        """Intermediate results; nothing reads them but people and a later build."""
        return self.out / ".cache"

    @property
    def new(self) -> Path:
        """Laid out like `out`; empty at first, gone once it is published."""
        return self.cache / "new"

    def publish(self) -> None:
        """Rename all of `new` over what is in `out`, model.yaml last.

        Who opens `out` between two renames finds a file whose sha256 the old model.yaml does not name.
        """
        files = [path.relative_to(self.new) for path in sorted(self.new.rglob("*")) if path.is_file()]
        for file in files:
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
        for file in sorted(files, key=lambda file: file.name == MODEL_FILE):
            os.replace(self.new / file, self.out / file)
        shutil.rmtree(self.new)


@contextmanager
def staging(out: Path, *, writes: bool = True) -> Iterator[Staging]:
    """An empty staging of `out`; it is another process's where this one does not write.

    Raises UsageError where a disk is full or a folder not to be written.
    """
    stage = Staging(out)
    try:
        if writes:
            if stage.new.exists():
                shutil.rmtree(stage.new)
            stage.new.mkdir(parents=True)
        yield stage
    except OSError as error:
        raise UsageError(f"{error.filename or out}: can't be written ({error.strerror or error})") from error
