"""The demo's real processes: `minwatt up`, and `minwatt replay` against it; each stopped by its own pid."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MINWATT = (sys.executable, "-m", "minwatt")
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0


class DemoError(Exception):
    """One line that says which process failed and where its log is."""


@dataclass(frozen=True)
class Load:
    """The same generated traffic for every run."""

    duration_s: float
    peak_rps: float
    seed: int
    slo_s: float


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of a fleet: where its replicas serve, and the page that shows what it does."""

    grpc: str
    dashboard: str


@contextmanager
def fleet(policy: Path, fixed_replicas: int | None, folder: Path) -> Iterator[Addresses]:
    """A running `minwatt up`, stopped (drained) at the end."""
    command = [
        *MINWATT,
        "up",
        "--policy",
        str(policy),
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--record",
        str(folder),
    ]
    if fixed_replicas is not None:
        command += ["--replicas", str(fixed_replicas)]
    log = folder / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)  # noqa: S603
    try:
        yield _ready_addresses(process, log)
        if process.poll() is not None:
            raise DemoError(f"minwatt up ended by itself with code {process.returncode}; see {log}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready_addresses(process: subprocess.Popen[str], log: Path) -> Addresses:
    """Waits for the `ready:` line, then lets the rest of the output drain into the log."""
    limit = threading.Timer(START_LIMIT_S, process.kill)
    limit.start()
    assert process.stdout is not None  # noqa: S101 - opened with PIPE above
    lines = iter(process.stdout.readline, "")
    try:
        for line in lines:
            if found := re.search(r"ready: grpc (\S+) .* dashboard (\S+)", line):
                break
        else:
            raise DemoError(f"minwatt up ended with code {process.wait()} before it was ready; see {log}")
    finally:
        limit.cancel()
    threading.Thread(target=_drain, args=(lines, log), daemon=True).start()
    return Addresses(found[1], found[2])


def _drain(lines: Iterator[str], log: Path) -> None:
    with log.open("a") as file:
        for line in lines:
            file.write(line)


# The crowd comes within a second, faster than a replica starts: what runs by then must bear it.
FLASH_FACTOR = 1.25


@contextmanager
def replay(
    address: str, name: str, load: Load, record: Path, out_dir: Path
) -> Iterator[subprocess.Popen[str]]:
    """A running `minwatt replay` of the load. Killed when the block is left early."""
    command = [*MINWATT, "replay", "--target", address, "--generate", "diurnal", "--name", name]
    command += [
        "--duration",
        f"{load.duration_s}s",
        "--peak-rps",
        str(load.peak_rps),
        "--flash-factor",
        str(FLASH_FACTOR),
        "--seed",
        str(load.seed),
    ]
    command += [
        "--slo",
        f"{1000 * load.slo_s:g}ms",
        "--fleet-log",
        str(record / "fleet.jsonl"),
        "--out",
        str(out_dir),
    ]
    with (record / "replay.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
