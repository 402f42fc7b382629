"""Files that may be replaced while they are in use: when they have changed, and stand still again.

Used by `front.tls` for certificates and by `access` for tenants. A file that is still being written is not
looked at: half of it may be valid.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

Stamps = tuple[tuple[int, ...] | None, ...]

LOOK_S = 1.0


def stamps(paths: Sequence[Path]) -> Stamps:
    """Changes when a file does, or what a link leads to (as Kubernetes swaps them)."""
    return tuple(map(_stamp, paths))


async def changes(paths: Sequence[Path], used: Stamps) -> AsyncIterator[None]:
    """Each time that the files are others than those `used`, and were the same a look ago. Never ends."""
    before = used
    while True:
        await asyncio.sleep(LOOK_S)
        now = await asyncio.to_thread(stamps, paths)
        if now != used and now == before:
            used = now
            yield
        before = now


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
