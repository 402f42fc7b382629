"""The profiles' directory, followed while the controller runs: a mounted ConfigMap is swapped under it.

Owns when the files are read again: once they have changed, and then stood still for a look. What becomes of
them is `profiles`'. Run by `controller`, in every copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from minwatt.v1.errors import UsageError
from scaler.kube.profiles import Library, files_in, read_again

LOOK_EVERY_S = 5.0

_Stamps = Mapping[str, tuple[int, ...] | None] | str  # a text: why there are none


class ProfileFiles:
    """`library` as it was read last; `revision` counts how often. `directory` None: it never changes."""

    def __init__(self, library: Library, directory: Path | None) -> None:
        self.library = library
        self.revision = 0
        self._directory = directory
        self._read = self._before = _stamps(directory)

    async def look(self) -> Sequence[str]:
        """What to say of what has changed; most often nothing."""
        now = _stamps(self._directory)
        still, self._before = now == self._before, now
        if self._directory is None or now == self._read or not still:
            return ()
        self._read = now
        before = self.library
        try:
            self.library = await asyncio.to_thread(read_again, self._directory, before)
        except UsageError as error:
            return (f"{error}; the profiles that were read before stay in use",)
        self.revision += 1
        return self.library.news(before)


def _stamps(directory: Path | None) -> _Stamps:
    """Change when a file does, or what a link leads to."""
    try:
        return {} if directory is None else {file.name: _stamp(file) for file in files_in(directory)}
    except UsageError as error:
        return str(error)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
