"""A `minwatt serve` process for tests: started on free ports, ready when entered, gone when left."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class ReplicaProcess:
    """Flags as on the command line; the port is free unless one is given."""

    front_ends = 0  # of replicas that are started from now on (`conftest`)

    def __init__(
        self,
        model: Path,
        *flags: str,
        environ: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        ports = () if "--port" in flags else ("--port", "0")
        slo = () if "--slo" in flags else ("--slo", "10s")  # a busy machine is no reason to refuse
        command = [
            sys.executable,
            "-m",
            "minwatt",
            "serve",
            "--model",
            str(model),
            "--metrics-port",
            "0",
            *ports,
            *slo,
            *(("--front-ends", str(self.front_ends)) if self.front_ends else ()),
            *flags,
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
            start_new_session=start_new_session,
        )
        self.target = ""
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_out, daemon=True),
            threading.Thread(target=self._read_err, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def ready(self) -> Self:
        """Waits for the ready line; at once if it has come."""
        if self.target:
            return self
        line = self._lines.get(timeout=START_TIMEOUT_S)
        match = re.fullmatch(r"ready: grpc (\S+) · metrics (\S+) · model (.+) · watts (\S+)\n", line)
        assert match, f"not a ready line: {line!r}; stderr: {self.stderr}"
        self.target, self.metrics_url, self.model, self.watts = match.groups()
        return self

    @property
    def stderr(self) -> str:
        return "".join(self._errors)

    def children(self, name: str) -> list[int]:
        """Its processes of that name, of which it has some with front ends."""
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in found if Path(f"/proc/{one}/comm").read_text().strip() == name]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def metric(self, name: str) -> float:
        """The value of a sample, its labels included in the name."""
        with urllib.request.urlopen(self.metrics_url) as page:
            lines = page.read().decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")))

    def wait(self) -> int:
        code = self.process.wait(STOP_TIMEOUT_S)
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)
        return code

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")  # whoever waits for a line learns that there will be none

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)
