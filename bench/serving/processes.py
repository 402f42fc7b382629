"""The processes of a benchmark: servers that say where they are, workers that answer JSON lines.

Each ends with its context. Called by `run` and by `peers`.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

import psutil

START_S = 120.0
STOP_S = 15.0
_ADDRESS = re.compile(r"\b(?:grpc|http1) (\S+:\d+)")
_METRICS = re.compile(r"\bmetrics (\S+)")
OWN_PYTHON = (sys.executable, "-m")


class BenchError(Exception):
    """What keeps a figure from being measured; shown as one line."""


class Child:
    """A process whose output lines are read; its errors go to a file."""

    def __init__(
        self, name: str, command: Sequence[str], errors: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.errors = errors
        with errors.open("w") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, text=True, env=environ
            )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self, timeout_s: float) -> str:
        """The next line. Raises BenchError when none comes."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except Empty:
            raise BenchError(f"{self.name}: no answer in {timeout_s:g} s; {self._last_error()}") from None
        if not line:
            raise BenchError(f"{self.name}: has ended; {self._last_error()}")
        return line

    def write(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - of Popen
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise BenchError(f"{self.name}: has ended; {self._last_error()}") from None

    def check(self) -> None:
        """Raises BenchError when the process has ended."""
        if self._process.poll() is not None:
            raise BenchError(
                f"{self.name}: has ended with code {self._process.returncode}; {self._last_error()}"
            )

    def wait(self, seconds: float) -> None:
        """Returns after so many seconds, or when the process has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _last_error(self) -> str:
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - of Popen
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        family = self._descendants()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for one in psutil.wait_procs(family, STOP_S)[1]:  # workers that outlive who started them
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._reader.join(STOP_S)
        self._process.stdout.close()

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Server(Child):
    """Ready once it has printed a line with its address."""

    address = ""
    metrics_url = ""

    def ready(self) -> Self:
        until_s = time.monotonic() + START_S
        while not self.address:
            line = self.line(max(0.1, until_s - time.monotonic()))
            found, metrics = _ADDRESS.search(line), _METRICS.search(line)
            self.address = found[1] if found else ""
            self.metrics_url = metrics[1] if metrics else ""
        return self


class Worker(Child):
    """Answers one JSON line to each."""

    def ask(self, timeout_s: float = START_S, **question: Any) -> dict[str, Any]:
        """Raises BenchError when there is no answer, or it is an error."""
        self.write(json.dumps(question))
        answer: dict[str, Any] = json.loads(self.line(timeout_s))
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer
