"""`minwatt measure -- COMMAND`: any command under a meter, and what it drew.

Owns the command's process and the sampling. The command has this process's input, output and process group,
so that it behaves as without; what is measured is told on stderr, or where `--json` says. Leaves the
arithmetic to `energy.tally`, the recording's format to `energy.replayed`, words to `metered_rows`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self, TextIO

import typer
from rich.console import Console

from energy import MeterSpecError, MeterUnavailable, ModelledMeter, PowerMeter, Tally, open_meter, tree_cpu_s
from energy.reading import Reading, Unknown
from energy.replayed import HEADER
from minwatt.commands.grid_intensity import CARBON_HELP, STATED_HELP, intensity_of
from minwatt.commands.metered_rows import Metered, as_json, print_metered
from minwatt.v1.errors import UsageError

_NOT_FOUND, _NOT_EXECUTABLE, _BY_SIGNAL = 127, 126, 128  # as a shell tells it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_METER_HELP = "auto, nvml[:index-or-uuid], rapl, modelled[:idle_w=W,busy_w_per_core=W] or replayed:FILE."


def measure(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="What to run, with its arguments.")
    ],
    meter: Annotated[str, typer.Option(help=_METER_HELP)] = "auto",
    every_s: Annotated[
        float, typer.Option("--every", min=0.05, max=60, help="Seconds between readings.")
    ] = 0.5,
    idle_s: Annotated[
        float,
        typer.Option("--idle", min=0, max=3600, help="Seconds to measure before it starts, for comparison."),
    ] = 0.0,
    record: Annotated[
        Path | None,
        typer.Option(help="Keep the readings: CSV t_s,watts, which --meter replayed:FILE plays again."),
    ] = None,
    grid_intensity: Annotated[float | None, typer.Option(help=STATED_HELP)] = None,
    carbon: Annotated[Path | None, typer.Option(help=CARBON_HELP)] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result there as JSON; -: standard output.")
    ] = None,
) -> None:
    """Run a command under a meter: joules, mean and highest watts, gCO2, and where they are from.

    Exit code: the command's own; 128 + the signal that ended it; 127 not found, 126 not executable.

    Example: minwatt measure --meter auto --record out/watts.csv -- python train.py
    """
    intensity = intensity_of(grid_intensity, carbon)
    opened = _opened(meter)
    try:
        with _recording(record) as keep:
            idle = _sampled(opened, every_s, _until(idle_s), lambda _now: None)
            code, drawn, took_s = _run(command, opened, every_s, keep)
    finally:
        opened.close()
    result = Metered(command, code, took_s, drawn, idle if idle_s else None, opened, intensity)
    if json is None:
        print_metered(result, Console(stderr=True))
    else:
        _write(json, as_json(result))
    raise typer.Exit(code)


def _opened(spec: str) -> PowerMeter:
    try:
        return open_meter(spec)
    except (MeterSpecError, MeterUnavailable) as error:
        raise UsageError(f"--{error}") from error


def _run(
    command: list[str], meter: PowerMeter, every_s: float, keep: Callable[[Reading | Unknown], None]
) -> tuple[int, Tally, float]:
    """(exit code, what it drew, seconds)."""
    began_s = time.monotonic()
    with _Forwarding() as forwarding:
        try:
            process = forwarding.process = subprocess.Popen(  # noqa: S603 - it is what was asked for
                command, preexec_fn=_tied_to(os.getpid())
            )
        except OSError as error:
            sys.stderr.write(f"minwatt measure: {command[0]}: {error.strerror}\n")
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            raise typer.Exit(code) from error
        if isinstance(meter, ModelledMeter):
            meter.count_also(_cpu_of(process))
        tally = _sampled(meter, every_s, lambda wait_s: _ended(process, wait_s), keep)
    code = process.returncode if process.returncode >= 0 else _BY_SIGNAL - process.returncode
    return code, tally, time.monotonic() - began_s


def _tied_to(parent_pid: int) -> Callable[[], None] | None:
    """What the command does before it starts: it asks for SIGTERM should this process be killed, which then
    has no time to forward anything. None where the kernel doesn't offer it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: the new process only calls it

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent_pid:  # it ended before the tie was there
            os._exit(_BY_SIGNAL + signal.SIGTERM)

    return tie


class _Forwarding:
    """While it is entered, signals that would end this process are for the command; from before it starts."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        return self

    def __exit__(self, *_raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward(self, number: int, _frame: object) -> None:
        if self.process is None:
            raise typer.Exit(_BY_SIGNAL + number)
        if number != signal.SIGINT or not _in_a_terminals_foreground():
            self.process.send_signal(number)


def _in_a_terminals_foreground() -> bool:
    """Then the terminal sends Ctrl-C to the command, too: twice might be taken for impatience."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _sampled(
    meter: PowerMeter,
    every_s: float,
    ended: Callable[[float], bool],
    keep: Callable[[Reading | Unknown], None],
) -> Tally:
    """Read at once, each `every_s`, and at the end. `ended` waits at most so long."""
    tally, done = Tally(), False
    while True:
        now = meter.read()
        tally = tally.after(now)
        keep(now)
        if done:
            return tally
        done = ended(every_s)


def _ended(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _until(seconds: float) -> Callable[[float], bool]:
    end_s = time.monotonic() + seconds

    def ended(wait_s: float) -> bool:
        time.sleep(max(0.0, min(wait_s, end_s - time.monotonic())))
        return time.monotonic() >= end_s

    return ended


def _cpu_of(process: subprocess.Popen[bytes]) -> Callable[[], float]:
    """Of the command and all below it; never goes back. Once it has ended the kernel's own count is whole."""
    earlier_s = _waited_s()
    highest_s = 0.0

    def cpu_s() -> float:
        nonlocal highest_s
        ended = process.returncode is not None
        highest_s = max(highest_s, _waited_s() - earlier_s if ended else tree_cpu_s(process.pid))
        return highest_s

    return cpu_s


def _waited_s() -> float:
    """CPU seconds of all children that were waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _recording(path: Path | None) -> Iterator[Callable[[Reading | Unknown], None]]:
    """What keeps a reading. A file that is there is replaced once all of the new one is written."""
    if path is None:
        yield lambda _now: None
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--record = {str(path)!r}: can't be written ({error.strerror})") from error
    try:
        with stream:
            recorder = _Recorder(stream)
            yield recorder.keep
            recorder.end()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class _Recorder:
    """Rows of `energy.replayed`: the watts that hold from a time on are the mean until the next reading."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began_s: float | None = None
        self._last: Reading | Unknown | None = None
        stream.write(f"{','.join(HEADER)}\n")

    def keep(self, now: Reading | Unknown) -> None:
        before = self._last
        if before is None:
            self._began_s = now.at_s
        elif now.at_s <= before.at_s:
            return
        elif isinstance(before, Reading) and isinstance(now, Reading):
            drawn_j = max(0.0, now.joules_total - before.joules_total)
            self._row(before.at_s, f"{drawn_j / (now.at_s - before.at_s):.6g}")
        else:
            self._row(before.at_s, "")
        self._last = now

    def end(self) -> None:
        if self._last is not None:
            self._row(self._last.at_s, "")

    def _row(self, at_s: float, watts: str) -> None:
        self._stream.write(f"{at_s - (self._began_s or 0.0):.6f},{watts}\n")


def _write(file: Path, text: str) -> None:
    if str(file) == "-":
        sys.stdout.write(text)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json = {str(file)!r}: can't be written ({error.strerror})") from error
