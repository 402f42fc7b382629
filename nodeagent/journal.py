"""What is set on which card, on disk before the card is touched, so that the next start can restore it.

Owns the file, its durability (written aside, synced, renamed, the folder synced) and that one agent at a time
uses it. Called by `hold` (before a card is touched and after it is restored) and `cli`.

The driver keeps locked clocks and power limits beyond the process that set them, and forgets them with a
reboot: what a journal of another boot says is void.

A journal that can't be read (a disk's fault: a write that was cut short leaves the one before) is kept aside,
and each card of the node is `suspected` from then on: it may be set, and what was found there is not known.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from energy.gpu import GpuError
from minwatt.v1.errors import UsageError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOST_BYTES = 1024 * 1024


class JournalError(GpuError):
    """It can't be written: nothing may be set."""


class Touched(BaseModel):
    """clocks: they may be locked. found_limit_w: the power limit that was there before it was touched.

    suspected: both may be set, by an agent whose journal was lost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    clocks: bool = False
    found_limit_w: Annotated[float, Field(gt=0)] | None = None
    suspected: bool = False


UNTOUCHED = Touched()
SUSPECTED = Touched(suspected=True)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    boot: str
    lost: bool = False  # a journal was, and the node's cards have not been found since
    cards: dict[str, Touched] = Field(default_factory=dict)


class Store(Protocol):
    """Where the bytes are kept: all of the last `save` that returned, or of one that was under way."""

    def load(self) -> bytes | None:
        """Raises OSError."""

    def keep_aside(self) -> str:
        """What is there, which the next `save` would replace. Returns where it is. Raises OSError."""

    def save(self, content: bytes) -> None:
        """Raises OSError."""


class Journal:
    """`touched` of a card that is not in it is UNTOUCHED."""

    def __init__(self, store: Store, boot: str) -> None:
        self._store = store
        self._boot = boot
        self._cards: dict[str, Touched] = {}
        self.note = ""  # one line, where what was stored does not count
        self.lost = False  # what it said is not known; until `suspect`
        try:
            content = store.load()
            document = _Document(boot=boot) if content is None else _Document.model_validate_json(content)
        except OSError as error:
            self._begin_anew(error.strerror or str(error))
        except ValidationError as error:
            self._begin_anew(error.errors(include_url=False)[0]["msg"])
        else:
            if document.boot != boot:
                self.note = "the journal is of another boot: what it says is void"
                return
            self._cards = dict(document.cards)
            self.lost = document.lost

    @property
    def cards(self) -> tuple[str, ...]:
        return tuple(self._cards)

    def touched(self, card: str) -> Touched:
        return self._cards.get(card, UNTOUCHED)

    def write(self, card: str, touched: Touched) -> None:
        """On disk when it returns. Raises JournalError; then it says what it said before, or this."""
        self._save({**self._cards, card: touched}, self.lost)

    def suspect(self, cards: Iterable[str]) -> None:
        """All cards of the node, where a journal was lost. Raises JournalError."""
        if self.lost:
            self._save({**dict.fromkeys(cards, SUSPECTED), **self._cards}, lost=False)

    def _begin_anew(self, reason: str) -> None:
        try:
            aside = f"kept as {self._store.keep_aside()}"
        except OSError as error:
            aside = f"which could not be kept ({error.strerror or error})"
        self.lost = True
        with contextlib.suppress(JournalError):  # then `suspect` is the first to write
            self._save({}, lost=True)
        self.note = f"journal {self._store}: {reason}: {aside}; every card is restored to its default"

    def _save(self, cards: Mapping[str, Touched], lost: bool) -> None:
        kept = {uuid: what for uuid, what in cards.items() if what != UNTOUCHED}
        document = _Document(boot=self._boot, lost=lost, cards=kept)
        try:
            self._store.save(document.model_dump_json(exclude_none=True).encode())
        except OSError as error:
            raise JournalError(f"the journal can't be written: {error.strerror or error}") from error
        self._cards, self.lost = kept, lost


class JournalFile:
    """In a folder that one agent at a time has, and nobody else may write to. `close` gives it back."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if need be. Raises UsageError."""
        self._path = folder / "journal.json"
        self._new = folder / "journal.json.new"
        self._aside = folder / "journal.json.unreadable"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(f"state-dir = {folder}: {error.strerror}") from error
        try:
            self._lock = self._locked(folder)
        except BaseException:
            os.close(self._folder)
            raise

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> bytes | None:
        """Raises UsageError where it is there and this user may not read it, or where it is no file."""
        try:
            with self._path.open("rb") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return None
        except (PermissionError, IsADirectoryError) as error:
            raise UsageError(f"journal {self._path}: {error.strerror}") from error

    def keep_aside(self) -> str:
        """Under a second name, so that at each moment there is a journal."""
        self._aside.unlink(missing_ok=True)
        os.link(self._path, self._aside)
        return str(self._aside)

    def save(self, content: bytes) -> None:
        file = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(file, "wb")) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._new.replace(self._path)
        os.fsync(self._folder)

    def close(self) -> None:
        os.close(self._folder)
        os.close(self._lock)

    def _locked(self, folder: Path) -> int:
        """A file of its own is: the folder itself any user could lock who may read it. Raises UsageError."""
        found = os.fstat(self._folder)
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o022:
            mode = f"user {found.st_uid}, mode {found.st_mode & 0o7777:o}"
            allowed = "allowed: one that root or this user owns and nobody else may write to"
            raise UsageError(f"state-dir = {folder}: {mode}: {allowed}")
        try:
            # To read: so that a disk that has become read-only does not keep the agent from starting.
            flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open("lock", flags, 0o600, dir_fd=self._folder)
        except OSError as error:
            raise UsageError(f"state-dir = {folder}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise UsageError(f"state-dir = {folder}: another node agent has it") from error
        return lock


def boot_id() -> str:
    """Of this boot of the kernel. Raises UsageError."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f"{BOOT_ID}: {error.strerror}") from error
