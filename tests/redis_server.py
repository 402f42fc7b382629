"""A real `redis-server` for tests, on a socket of its own; it may be frozen, stopped and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from service.cache import redis_store

START_TIMEOUT_S = 30


def unhurried(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    """A busy machine is not a slow Redis."""
    for name in ("LOOKUP_S", "ROUND_S", "PROBE_S"):
        monkeypatch.setattr(redis_store, name, patience_s)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """Entered: it runs and takes connections. Nothing is written to disk, but for what `flags` ask for.

    `flags` as redis-server's own; on TCP it listens only where they say so.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        if shutil.which("redis-server") is None:
            raise RuntimeError("redis-server is missing: run `make system` or install Debian's redis-server")
        self._socket = folder / "redis.sock"
        self._folder = folder
        self._flags = flags if "--port" in flags else ("--port", "0", *flags)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "redis-server",
                *self._flags,
                "--unixsocket",
                str(self._socket),
                "--save",
                "",
                "--appendonly",
                "no",
            ],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        end_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < end_s, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """It keeps its connections and says nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: bytes) -> bytes:
        """The raw reply to one command."""
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_TIMEOUT_S)
            connection.connect(str(self._socket))
            connection.sendall(request)
            return connection.recv(1 << 20)

    def _answers(self) -> bool:
        try:
            answer = self.command(b"PING")
            return answer == b"+PONG\r\n" or answer.startswith(b"-NOAUTH")
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@contextmanager
def redis_cluster(folder: Path) -> Iterator[tuple[RedisServer, str]]:
    """A cluster of one node that holds all slots, and its URL."""
    port = free_port()
    flags = ("--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer(folder, *flags, "--cluster-config-file", str(folder / "nodes.conf")) as server:
        assert server.command(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383") == b"+OK\r\n"
        end_s = time.monotonic() + START_TIMEOUT_S
        while b"cluster_state:ok" not in server.command(b"CLUSTER", b"INFO"):
            assert time.monotonic() < end_s, "the cluster does not come up"
            time.sleep(0.01)
        yield server, f"redis+cluster://127.0.0.1:{port}"
