"""Changes of files are told once each, and only of files that stand still."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service import changed_files
from service.changed_files import changes, stamps


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(changed_files, "LOOK_S", 0.0)
    path = tmp_path / "file"
    path.write_text("one")
    return path


async def told(found: AsyncIterator[None], within_s: float = 30.0) -> bool:
    """Whether a change is told; asking goes on where it is not."""
    try:
        async with asyncio.timeout(within_s):
            await anext(found)
    except TimeoutError:
        return False
    return True


async def test_what_changed_since_it_was_used_is_told_though_nobody_looked(file: Path) -> None:
    used = stamps([file])
    os.truncate(file, 1)
    assert await told(changes([file], used))


async def test_nothing_is_told_of_files_that_are_as_they_were(file: Path) -> None:
    assert not await told(changes([file], stamps([file])), within_s=0.1)


async def test_a_link_that_leads_elsewhere_and_a_file_that_is_gone_are_changes(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    found = changes([link], stamps([link]))
    other = file.with_name("other")
    other.write_text("one")
    os.replace(_linked(other), link)
    assert await told(found)
    other.unlink()
    assert await told(found)


async def test_a_file_that_is_still_being_written_is_not_told_of(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    stamp = changed_files._stamp

    def growing(path: Path) -> tuple[int, ...] | None:
        nonlocal looks
        looks += 1
        if looks <= 5:
            with path.open("a") as more:
                more.write("more")
        return stamp(path)

    used = stamps([file])
    monkeypatch.setattr(changed_files, "_stamp", growing)
    assert await told(changes([file], used))
    assert looks == 6  # five that wrote, and one that found it as it was


def _linked(to: Path) -> Path:
    link = to.with_name("fresh")
    link.symlink_to(to)
    return link
