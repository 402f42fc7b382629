"""Writes a model directory all at once: new files gather apart and replace the old ones at the end.

Owns `DIR/.cache/new` and `DIR/.cache/stale`, on the same disk as DIR. Leaves what is written to its callers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory


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

    @property
    def stale(self) -> Path:
        """Graphs of variants that a published model.yaml no longer names, laid out like `out`."""
        return self.cache / "stale"

    def discard(self) -> None:
        """Leave `out` as it was, without what was staged and without folders that were made for it."""
        shutil.rmtree(self.new, ignore_errors=True)
        for folder in (self.cache, self.out):
            with suppress(OSError):  # something else is in it
                folder.rmdir()

    def publish(self) -> tuple[str, ...]:
        """Rename all of `new` over what is in `out`, model.yaml last; then move the graphs that it names no
        more, of an earlier model, to `stale`. The variants of those are returned.

        Who opens `out` between two renames finds a file whose sha256 the old model.yaml does not name.
        """
        before = _graphs(self.out)
        files = [path.relative_to(self.new) for path in sorted(self.new.rglob("*")) if path.is_file()]
        for file in files:
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
        for file in sorted(files, key=lambda file: file.name == MODEL_FILE):
            os.replace(self.new / file, self.out / file)
        shutil.rmtree(self.new)
        named = _graphs(self.out)
        gone = {name: file for name, file in before.items() if file not in named.values()}
        for graph in gone.values():
            (self.stale / graph).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.out / graph, self.stale / graph)
            with suppress(OSError):  # something else is in it
                (self.out / graph).parent.rmdir()
        return tuple(gone)


def stale_line(names: Sequence[str], out: Path) -> str:
    """What became of variants that were made of the graph before."""
    return (
        f"{', '.join(names)}: made of the model before, moved to {Staging(out).stale}; "
        "`minwatt model quantize` makes them anew"
    )


def _graphs(folder: Path) -> dict[str, str]:
    """Variant -> file, of those on disk; none where there is no model.yaml that can be read."""
    try:
        directory = ModelDirectory.open(folder)
    except UsageError:
        return {}
    return {name: directory.spec.variants[name].file for name in directory.present_variants()}


@contextmanager
def staging(out: Path, *, writes: bool = True) -> Iterator[Staging]:
    """An empty staging of `out`; it is another process's where this one does not write.

    What is staged goes where the body fails or is interrupted: a full disk has its room back.

    Raises UsageError where a disk is full or a folder not to be written.
    """
    stage = Staging(out)
    try:
        if writes:
            if stage.new.exists():
                shutil.rmtree(stage.new)
            stage.new.mkdir(parents=True)
        yield stage
    except BaseException as error:
        if writes:
            stage.discard()
        if isinstance(error, OSError):
            line = f"{error.filename or out}: can't be written ({error.strerror or error})"
            raise UsageError(line) from error
        raise
