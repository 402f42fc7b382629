"""Prepared messages in a file, and texts in groups. Nothing but the standard library: peers write them too.

Written by `bodies` and by `peers`; read by `load`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from struct import Struct

_LENGTH = Struct(">I")


def grouped(texts: Sequence[str], size: int) -> list[list[str]]:
    """`size` texts a group, in order; what is left at the end goes."""
    return [list(texts[i : i + size]) for i in range(0, len(texts) - size + 1, size)]


def write_bodies(file: Path, bodies: Sequence[bytes]) -> str:
    """Messages as the load generator reads them; returns the file's path."""
    file.write_bytes(b"".join(_LENGTH.pack(len(body)) + body for body in bodies))
    return str(file)


def read_bodies(file: str) -> list[bytes]:
    data, at, bodies = Path(file).read_bytes(), 0, []
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        bodies.append(data[at : at + length])
        at += length
    return bodies
