"""The command's own part: help, version, unknown names, and mistakes as one line with exit code 2."""

import pytest

from minwatt import cli
from minwatt.v1.errors import UsageError


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
