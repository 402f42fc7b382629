"""The command's own part: help, version, unknown names, and mistakes as one line with exit code 2."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from minwatt import cli
from minwatt.resources import default_policy, default_profile
from minwatt.v1.errors import UsageError

SHOW = ("policy", "check", str(default_policy()))
UNBUFFERED = pytest.mark.parametrize("unbuffered", ["", "1"])


def minwatt(*arguments: str, stdout: int, **variables: str) -> tuple[int, bytes]:
    """Its exit code and what it says on stderr, as a process with that output."""
    command = [sys.executable, "-m", "minwatt", *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False)
    return done.returncode, done.stderr


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


def test_an_unknown_command_is_named_beside_those_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["srve"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (
        f"minwatt: command = 'srve': not known; allowed: {', '.join(cli.COMMANDS)}\n"
    )


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_asked_for_in_either_way(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["policy", "check", flag])
    assert exit_.value.code == 0
    assert "Usage: minwatt policy check" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    assert f"minwatt {name}" in capsys.readouterr().out.partition("\n")[2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "abc"], "Invalid value for '--port': Input should be a valid integer"),
        (["--prot", "1"], "No such option: --prot"),
        (["extra"], "Got unexpected extra argument"),
        (["--port"], "Option '--port' requires an argument."),
    ],
)
def test_a_wrong_flag_is_one_line_too(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["serve", *arguments])
    assert exit_.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed.startswith(f"minwatt serve: {line}")


def test_a_users_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistaken() -> None:
        raise UsageError("port = 99999: allowed: 0 to 65535")

    monkeypatch.setitem(cli.COMMANDS, "mistaken", ("tests_only", "mistaken", ""))
    monkeypatch.setattr(cli.importlib, "import_module", lambda _: type("module", (), {"mistaken": mistaken}))
    with pytest.raises(SystemExit) as exit_:
        cli.main(["mistaken"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "minwatt mistaken: port = 99999: allowed: 0 to 65535\n"


@pytest.mark.parametrize("place", ["import", "command"])
def test_an_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    found = type("module", (), {"long": staticmethod(lambda: interrupted())})
    monkeypatch.setitem(cli.COMMANDS, "long", ("tests_only", "long", ""))
    monkeypatch.setattr(cli.importlib, "import_module", interrupted if place == "import" else lambda _: found)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["long"])
    assert exit_.value.code == 130
    assert capsys.readouterr() == ("", "")


@UNBUFFERED
def test_a_reader_that_left_is_not_told_of(unbuffered: str) -> None:
    """`| head` closes the pipe: neither a traceback nor the code of a bad answer."""
    read, write = os.pipe()
    os.close(read)
    try:
        assert minwatt(*SHOW, stdout=write, PYTHONUNBUFFERED=unbuffered) == (141, b"")
    finally:
        os.close(write)


def test_a_reader_that_left_a_long_table_is_not_told_of_either() -> None:
    """Then rich finds the pipe closed while it prints, and not Python when it ends."""
    read, write = os.pipe()
    os.close(read)
    profile = str(default_profile())
    try:
        assert minwatt("report", "compare", profile, profile, stdout=write) == (141, b"")
    finally:
        os.close(write)


@UNBUFFERED
def test_an_output_that_is_full_is_one_line(unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        code, said = minwatt(*SHOW, stdout=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert (code, said) == (2, b"minwatt: the output: can't be written (No space left on device)\n")


def test_a_socket_that_breaks_is_no_reader_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise BrokenPipeError(errno.EPIPE, "of a connection to a server")

    monkeypatch.setattr(cli, "_dispatch", lambda _given: broken())
    with pytest.raises(BrokenPipeError):
        cli.main([])


def test_a_terminal_that_lacks_a_sign_gets_another() -> None:
    command = [sys.executable, "-m", "minwatt", *SHOW]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"p99 ? 100ms at the server" in shown.stdout
    assert shown.stderr == b""
