"""What is set on which card, on disk before the card is touched, so that the next start can restore it.

Owns the file, its durability (written aside, synced, renamed, the folder synced) and that one agent at a time
uses it. Called by `hold` (before a card is touched and after it is restored) and `cli`.

The driver keeps locked clocks and power limits beyond the process that set them, and forgets them with a
reboot: what a journal of another boot says is void.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
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
    """clocks: they may be locked. found_limit_w: the power limit that was there before it was touched."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    clocks: bool = False
    found_limit_w: Annotated[float, Field(gt=0)] | None = None


UNTOUCHED = Touched()


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    boot: str
    cards: dict[str, Touched] = Field(default_factory=dict)


class Store(Protocol):
    """Where the bytes are kept: all of the last `save` that returned, or of one that was under way."""

    def load(self) -> bytes | None: ...

    def save(self, content: bytes) -> None:
        """Raises OSError."""


class Journal:
    """`touched` of a card that is not in it is UNTOUCHED."""

    def __init__(self, store: Store, boot: str) -> None:
        """Raises UsageError where what is stored is not a journal."""
        self._store = store
        self._boot = boot
        content = store.load()
        self._cards: dict[str, Touched] = {}
        self.void = False  # it was another boot's
        if content is None:
            return
        try:
            document = _Document.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UsageError(
                f"journal {store}: {first['msg']}: which cards are set is not known; reset them by hand "
                "(nvidia-smi -rgc, -pl) and remove the file"
            ) from error
        self.void = document.boot != boot
        if not self.void:
            self._cards = dict(document.cards)

    @property
    def cards(self) -> tuple[str, ...]:
        return tuple(self._cards)

    def touched(self, card: str) -> Touched:
        return self._cards.get(card, UNTOUCHED)

    def write(self, card: str, touched: Touched) -> None:
        """On disk when it returns. Raises JournalError; then it says what it said before, or this."""
        cards = {uuid: what for uuid, what in {**self._cards, card: touched}.items() if what != UNTOUCHED}
        document = _Document(boot=self._boot, cards=cards)
        try:
            self._store.save(document.model_dump_json(exclude_none=True).encode())
        except OSError as error:
            raise JournalError(f"the journal can't be written: {error.strerror or error}") from error
        self._cards = cards


class JournalFile:
    """In a folder that one agent at a time has. `close` gives it back."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if need be. Raises UsageError."""
        self._path = folder / "journal.json"
        self._aside = folder / "journal.json.new"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(f"state-dir = {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._folder)
            raise UsageError(f"state-dir = {folder}: another node agent has it") from error

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from error

    def save(self, content: bytes) -> None:
        file = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(file, "wb")) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._aside.replace(self._path)
        os.fsync(self._folder)

    def close(self) -> None:
        os.close(self._folder)


def boot_id() -> str:
    """Of this boot of the kernel. Raises UsageError."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f"{BOOT_ID}: {error.strerror}") from error
