"""When a capture file is full, and which old ones go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PARTS_OF_SIZE = 16  # a file takes this part of all the room: as much is lost at once when room is needed
PARTS_OF_TIME = 24


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of all files in a folder together."""

    total_bytes: int
    keep_s: float

    @property
    def file_bytes(self) -> int:
        return self.total_bytes // PARTS_OF_SIZE

    @property
    def file_s(self) -> float:
        return self.keep_s / PARTS_OF_TIME

    def full(self, size_bytes: int, more_bytes: int, age_s: float) -> bool:
        """Whether a file of this size and age is ended before `more_bytes` are added."""
        return size_bytes + more_bytes > self.file_bytes or age_s >= self.file_s


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that nobody writes any more."""

    path: Path
    size_bytes: int
    age_s: float  # since it was last written


def outlived(kept: Sequence[Kept], bounds: Bounds) -> list[Kept]:
    """What has to go, oldest first, so that the rest and a full file more are within the bounds."""
    gone = []
    left_bytes = sum(one.size_bytes for one in kept) + bounds.file_bytes
    for one in sorted(kept, key=lambda one: (-one.age_s, one.path)):
        if one.age_s <= bounds.keep_s and left_bytes <= bounds.total_bytes:
            break
        gone.append(one)
        left_bytes -= one.size_bytes
    return gone
