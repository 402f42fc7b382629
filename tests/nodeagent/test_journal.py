"""The journal: on disk when a write returns, whole whenever it stops, one agent's at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from nodeagent.journal import UNTOUCHED, Journal, JournalError, JournalFile, Touched, boot_id
from tests.nodeagent.in_memory import FIRST, SECOND, Disk


def test_what_is_written_is_read_by_the_next(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "state")
    journal = Journal(file, "boot")
    journal.write(FIRST, Touched(clocks=True))
    journal.write(SECOND, Touched(found_limit_w=350.5))
    journal.write(FIRST, Touched(clocks=True, found_limit_w=300.0))
    file.close()
    file = JournalFile(tmp_path / "state")
    read = Journal(file, "boot")
    assert set(read.cards) == {FIRST, SECOND}
    assert read.touched(FIRST) == Touched(clocks=True, found_limit_w=300.0)
    read.write(FIRST, UNTOUCHED)
    assert Journal(file, "boot").cards == (SECOND,)
    file.close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "journal.json").stat().st_mode & 0o777 == 0o600


def test_another_boot_s_is_void(tmp_path: Path) -> None:
    disk = Disk()
    Journal(disk, "boot before").write(FIRST, Touched(clocks=True))
    journal = Journal(disk, "boot now")
    assert (journal.cards, journal.note) == ((), "the journal is of another boot: what it says is void")
    assert boot_id() == boot_id() != ""


def test_two_agents_do_not_share_a_folder(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    with pytest.raises(UsageError, match="another node agent has it"):
        JournalFile(tmp_path)
    file.close()
    JournalFile(tmp_path).close()


def test_another_user_who_may_read_the_folder_can_not_keep_an_agent_from_it(tmp_path: Path) -> None:
    JournalFile(tmp_path).close()
    tmp_path.chmod(0o755)  # as the kubelet makes it
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600, "nobody else may open it"
    theirs = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(theirs, fcntl.LOCK_EX)
    JournalFile(tmp_path).close()
    os.close(theirs)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could lead what root writes to any file."""
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(UsageError, match=f"state-dir = {folder}: user [0-9]+, mode {mode:o}: allowed: one"):
        JournalFile(folder)
    assert not list(folder.iterdir())
    folder.chmod(0o755)
    JournalFile(folder).close()


def test_a_lock_that_leads_elsewhere_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=f"state-dir = {tmp_path}: Too many levels of symbolic links"):
        JournalFile(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version":2,"boot":"b","cards":{}}', b"\xff\xfe", b"\0" * 4096]
)
def test_what_is_not_a_journal_is_kept_aside_and_every_card_is_suspected(content: bytes) -> None:
    disk = Disk()
    disk.content = content
    journal = Journal(disk, "boot")
    assert journal.note.startswith("journal ")
    assert journal.note.endswith(": kept as aside; every card is restored to its default")
    assert "\n" not in journal.note
    assert (disk.aside, journal.lost, journal.cards) == (content, True, ())
    again = Journal(disk, "boot")
    assert (again.lost, again.note) == (True, ""), "also where it stopped before a card was found"
    again.suspect([FIRST, SECOND])
    assert not again.lost
    read = Journal(disk, "boot")
    assert (read.lost, read.cards) == (False, (FIRST, SECOND))
    assert read.touched(FIRST) == Touched(suspected=True)
    read.suspect(["GPU-another"])
    assert read.cards == (FIRST, SECOND), "no journal was lost"


def test_a_torn_journal_on_a_full_disk_is_still_one_that_was_lost() -> None:
    disk = Disk()
    disk.content, disk.full = b"{", True
    journal = Journal(disk, "boot")
    assert journal.lost
    with pytest.raises(JournalError):
        journal.suspect([FIRST])
    assert (journal.lost, disk.content) == (True, b"{"), "the next start finds it as it was"
    disk.full = False
    journal.suspect([FIRST])
    assert Journal(disk, "boot").cards == (FIRST,)


def test_at_each_moment_there_is_a_journal_in_the_folder(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    path, aside = tmp_path / "journal.json", tmp_path / "journal.json.unreadable"
    for torn in ('{"version": 1, "bo', ""):
        path.write_text(torn)
        assert file.keep_aside() == str(aside)
        assert (path.read_text(), aside.read_text()) == (torn, torn)
        assert str(aside) in Journal(file, "boot").note
        assert (Journal(file, "boot").lost, aside.read_text()) == (True, torn)
    file.close()


def test_what_is_no_file_is_a_mistake_and_one_line(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    (tmp_path / "journal.json").mkdir()
    with pytest.raises(UsageError, match=f"journal {tmp_path}/journal.json: Is a directory"):
        Journal(file, "boot")
    file.close()


def test_a_write_that_fails_leaves_what_was(tmp_path: Path) -> None:
    disk = Disk()
    journal = Journal(disk, "boot")
    journal.write(FIRST, Touched(clocks=True))
    disk.full = True
    with pytest.raises(JournalError, match="the journal can't be written: No space left on device"):
        journal.write(FIRST, UNTOUCHED)
    assert journal.touched(FIRST) == Touched(clocks=True)
    assert Journal(disk, "boot").touched(FIRST) == Touched(clocks=True)


def test_what_was_written_aside_when_it_stopped_is_not_read(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    Journal(file, "boot").write(FIRST, Touched(clocks=True))
    (tmp_path / "journal.json.new").write_bytes(b"half a")
    assert Journal(file, "boot").cards == (FIRST,)
    file.close()


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"state-dir = .*: "):
        JournalFile(tmp_path / "file" / "below")
