"""Writes what was sampled, on a thread of its own: whole lines after a crash, files that end in a rename.

Owns the folder, the files' names and the salt of each. A disk that refuses ends the capture with one line in
the log, and serving goes on. Texts are masked here, never earlier and never later. Made by `opening`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from minwatt.v1.capture_file import DONE, OPEN, Header, Row, line
from service.capture.rotation import Bounds, Kept, outlived
from service.capture.sampling import Sampling, Seen

WRITE_EVERY_S = 0.25
# A write lets go of the interpreter's lock. Were there thousands of lines between two, the event loop would
# wait for as long as the interpreter lets a thread compute (5 ms), which is a tail latency.
LINES_A_WRITE = 32
DIGEST_CHARACTERS = 16
ABANDONED_S = 3600.0  # an open file that nobody wrote to for so long is a dead replica's

Mask = Callable[[str], str]
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _File:
    descriptor: int
    path: Path
    started_s: float  # of the monotonic clock: the rows' zero
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    size_bytes: int = 0

    def digest(self, tenant: str) -> str:
        return hmac.new(self.salt, tenant.encode(), hashlib.sha256).hexdigest()[:DIGEST_CHARACTERS]


class Writer:
    """One per process. `start` and `close` from the event loop's thread."""

    def __init__(
        self, folder: Path, replica: str, bounds: Bounds, sampling: Sampling, mask: Mask | None = None
    ) -> None:
        """`mask`: without it no text is written, whatever was sampled."""
        self._folder, self._replica, self._bounds = folder, replica, bounds
        self._sampling, self._mask = sampling, mask
        self._file: _File | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._next_room_s = 0.0  # of the monotonic clock: files grow old without traffic too
        self.failed = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Writes what waits and ends the file."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._make_room()
            while not self._ended.wait(WRITE_EVERY_S):
                self.write()
                if time.monotonic() >= self._next_room_s:
                    self._make_room()
            self.write()
            self._end_file()
        except Exception as error:  # a masker's too: what can't be masked is not written
            self.failed = True
            self._sampling.share = 0.0  # nothing more is sampled
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.error("capture: %s can't be written (%s): nothing more is captured", self._folder, why)

    def write(self) -> None:
        """All that waits. Raises OSError."""
        while taken := self._sampling.take(LINES_A_WRITE):
            self._append(taken)
        if self._file is not None and self._bounds.full(0, 0, time.monotonic() - self._file.started_s):
            self._end_file()

    def _append(self, taken: list[Seen]) -> None:
        file = self._file or self._begin_file()
        lines = [line(self._row(one, file)) for one in taken]
        if file.size_bytes and self._bounds.full(file.size_bytes, sum(map(len, lines)), 0.0):
            self._end_file()
            file = self._begin_file()
            lines = [line(self._row(one, file)) for one in taken]  # with its own zero and salt
        _write(file, b"".join(lines))

    def _row(self, one: Seen, file: _File) -> Row:
        masked = None
        if one.words is not None and self._mask is not None:
            masked = tuple(map(self._mask, one.words))
        return Row(
            at_s=round(one.arrived_s - file.started_s, 6),
            task=one.task,
            tenant=file.digest(one.tenant),
            texts=one.texts,
            tokens=one.tokens,
            size_bytes=one.size_bytes,
            deadline_s=round(one.deadline_s, 6),
            priority="batch" if one.batch else "interactive",
            outcome=one.outcome,
            latency_s=round(one.latency_s, 6),
            model=one.model,
            no_cache=one.no_cache,
            truncate=one.truncate,
            masked=masked,
        )

    def _begin_file(self) -> _File:
        now_s, unix_s = time.monotonic(), time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix_s))
        path = self._folder / f"{stamp}-{self._replica}-{secrets.token_hex(3)}{OPEN}"
        # The owner's alone: who asked what and when is not for every user of the machine.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = _File(descriptor, path, now_s)
        header = Header(started_unix_s=unix_s, share=self._sampling.share or 1.0, replica=self._replica)
        _write(self._file, line(header))
        return self._file

    def _end_file(self) -> None:
        """On the disk, and only then under its own name; then there is room for the next one."""
        file, self._file = self._file, None
        if file is not None:
            os.fsync(file.descriptor)
            os.close(file.descriptor)
            file.path.rename(file.path.with_name(file.path.name.removesuffix(OPEN) + DONE))
        self._make_room()

    def _make_room(self) -> None:
        self._next_room_s = time.monotonic() + self._bounds.file_s
        for one in outlived(_kept(self._folder), self._bounds):
            one.path.unlink(missing_ok=True)  # replicas may share a folder


def _write(file: _File, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file.descriptor, left) :]
    file.size_bytes += len(data)


def _kept(folder: Path) -> list[Kept]:
    now_s, kept = time.time(), []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            age_s = now_s - told.st_mtime
            if path.name.endswith(DONE) or (path.name.endswith(OPEN) and age_s > ABANDONED_S):
                kept.append(Kept(path, told.st_size, age_s))
    return kept
