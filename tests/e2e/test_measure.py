"""`minwatt measure -- COMMAND` as a user runs it: the command is untouched, and its joules are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from energy import Reading, open_meter
from tests.eventually import WAIT_S

BUSY = """import sys, time
while time.process_time() < 0.4: pass
print(sys.stdin.read())
"""


def measure(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minwatt", "measure", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=WAIT_S)


def test_the_commands_words_and_code_are_its_own_and_its_joules_are_told(tmp_path: Path) -> None:
    out, record = tmp_path / "a/result.json", tmp_path / "b/watts.csv"
    flags = ["--meter", "modelled:idle_w=1,busy_w_per_core=10", "--every", "0.1", "--grid-intensity", "360"]
    below = (
        f"import subprocess,sys; sys.exit(subprocess.run([sys.executable, '-c', {BUSY!r}]).returncode + 3)"
    )
    command = [sys.executable, "-c", below]
    done = measure(*flags, "--json", str(out), "--record", str(record), "--", *command, stdin="hello")
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello\n", "")
    result = json.loads(out.read_text())
    assert result["exit_code"] == 3
    assert result["command"] == command
    assert result["source"] == "modelled"
    assert result["energy_j"] >= 0.4 * 10, "the work of a process below it counts"
    assert result["average_w"] <= result["peak_w"]
    assert result["gco2"] == pytest.approx(result["energy_j"] * 360 / 3.6e6)
    assert result["unknown_s"] == {}

    now_s = 0.0
    meter = open_meter(f"replayed:{record}", clock=lambda: now_s)
    now_s = result["known_s"] - 1e-3
    again = meter.read()
    assert isinstance(again, Reading)
    assert again.joules_total == pytest.approx(result["energy_j"], rel=0.02)


def test_a_table_says_where_watts_are_from() -> None:
    done = measure(
        "--meter", "modelled", "--idle", "0.2", "--every", "0.1", "--", sys.executable, "-c", "pass"
    )
    assert done.returncode == 0
    assert done.stdout == ""
    for words in (
        "joules",
        "before it",
        "modelled, not measured: 0.74 W, and 2.76 W a busy core",
        "beyond what",
    ):
        assert words in done.stderr


def test_what_is_unknown_is_said_and_never_zero(tmp_path: Path) -> None:
    recording = tmp_path / "watts.csv"
    recording.write_text("t_s,watts\n0,\n1000,5\n")
    flags = ["--meter", f"replayed:{recording}", "--json", "-"]
    done = measure(*flags, "--", sys.executable, "-c", "pass")
    result = json.loads(done.stdout)
    assert (result["energy_j"], result["average_w"], result["source"]) == (None, None, "unknown")
    assert list(result["unknown_s"]) == ["a gap in the recording"]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--", "/no/such/program"], 127, "minwatt measure: /no/such/program: No such file or directory\n"),
        (["--", "/"], 126, "minwatt measure: /: Permission denied\n"),
        (["--meter", "guess", "--", "true"], 2, "minwatt measure: --meter = 'guess': allowed: auto, "),
        (["--record", "/dev/null/x", "--", "true"], 2, "--record = '/dev/null/x': can't be written"),
        (["--grid-intensity", "-1", "--", "true"], 2, "--grid-intensity = -1: allowed"),
        ([], 2, "COMMAND"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], code: int, line: str) -> None:
    done = measure(*words)
    assert done.returncode == code
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def said(file: Path) -> str:
    """What a command has written there, once it has."""
    give_up_s = time.monotonic() + WAIT_S
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    return file.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_the_code_says_so(number: signal.Signals, tmp_path: Path) -> None:
    here = tmp_path / "pid"
    child = f"""if True:
        import os, signal, time
        signal.signal({int(number)}, signal.SIG_DFL)  # whoever runs the tests may have it ignored
        open({str(here)!r}, "w").write(str(os.getpid()))
        time.sleep(60)"""
    flags = ["--meter", "modelled", "--json", str(tmp_path / "result.json")]
    command = [sys.executable, "-m", "minwatt", "measure", *flags, "--", sys.executable, "-c", child]
    with subprocess.Popen(command, start_new_session=True) as process:  # no terminal
        child_pid = int(said(here))
        process.send_signal(number)
        assert process.wait(WAIT_S) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child_pid, 0)
    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 128 + number


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own signal at a parent's death")
def test_a_command_does_not_outlive_a_measure_that_is_killed(tmp_path: Path) -> None:
    pid, told = tmp_path / "pid", tmp_path / "told"
    child = f"""if True:
        import os, signal, sys, time
        def note(number, frame):
            open({str(told)!r}, "w").write(str(number))
            sys.exit()
        signal.signal(signal.SIGTERM, note)
        open({str(pid)!r}, "w").write(str(os.getpid()))
        time.sleep(60)"""
    command = [sys.executable, "-m", "minwatt", "measure", "--meter", "modelled", "--"]
    with subprocess.Popen([*command, sys.executable, "-c", child]) as process:
        said(pid)
        process.kill()
    assert int(said(told)) == signal.SIGTERM
