"""The `minwatt` command: finds a subcommand's component by name and loads it only then.

Owns no behaviour: each component has a `cli` module of its own. A mistake becomes one line on stderr,
and so does what befalls the output; neither is ever a traceback. Exit codes: 0 good, 1 the job ran and the
answer is bad, 2 bad usage, 130 interrupted (Ctrl-C), 141 who read the output has left (`| head`).
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import io
import os
import select
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from minwatt.v1.errors import UsageError

# name -> (module, attribute, summary); the attribute is a function that typer reads, or a typer app
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("scaler.cli", "up", "the whole system on this machine: scaler and replicas sharing one port"),
    "serve": ("minwatt.commands.serve", "serve", "one replica: serve a model over gRPC"),
    "scale": ("scaler.cli", "scale", "the scaler alone, for replicas that join it"),
    "key": ("service.key_cli", "app", "API keys for the tenants of a server"),
    "replay": ("loadtest.cli", "replay", "open-loop load from a trace or a generator, and its report"),
    "profile": ("minwatt.commands.profile", "app", "measure a model's latency and watts; show a profile"),
    "measure": ("minwatt.commands.metered", "measure", "joules and watts of any command"),
    "plan": ("minwatt.commands.plan", "plan", "the fleet that the planner chooses for a steady rate"),
    "backtest": (
        "minwatt.commands.backtest",
        "backtest",
        "a recorded trace through minwatt and other autoscalers, simulated",
    ),
    "report": ("minwatt.commands.report", "app", "two results beside one another"),
    "model": ("minwatt.commands.model", "app", "fine-tune, build, quantize, measure and choose models"),
    "node-agent": ("nodeagent.cli", "node_agent", "GPU clocks and watts for a node's replicas; needs root"),
    "policy": ("scaler.cli", "policy_app", "check a PowerPolicy"),
}
# As a shell tells of a process that a signal ended: 128 and the signal's number.
INTERRUPTED, READER_LEFT = 130, 141
TAGLINE = "Text classification and entity recognition over gRPC at minimum watts under a latency SLO."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `minwatt ARGUMENTS` (default: the process's own) and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    output = _output()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without `≤` shows `?`, and a server serves on
    try:
        try:
            _dispatch(given)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what fails here is told here
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        _output_failed(error)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer ends so, with the code of a bad answer
            if _output() != output:  # so does rich, and nobody hears the rest
                sys.exit(READER_LEFT)
            _output_failed(ended.__context__)
        raise


def _dispatch(given: Sequence[str]) -> None:
    name, *rest = given or ["--help"]
    if name in {"--help", "-h"}:
        _print(_help())
    elif name == "--version":
        _print(f"minwatt {importlib.metadata.version('minwatt')}")
    elif name in COMMANDS:
        _run(name, rest)
    else:
        print(f"minwatt: command = {name!r}: not known; allowed: {', '.join(COMMANDS)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _output_failed(error: OSError) -> NoReturn:
    """Where nobody reads any more, or a disk is full. Any other error is the program's own, and is raised."""
    if error.errno == errno.ENOSPC:
        where = error.filename or "the output"
        print(f"minwatt: {where}: can't be written ({error.strerror})", file=sys.stderr)  # noqa: T201
    elif error.errno != errno.EPIPE or not _reader_left():
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed when Python ends
    sys.exit(READER_LEFT if error.errno == errno.EPIPE else 2)


def _output() -> tuple[int, int] | None:
    """Which file standard output is; None where it is closed."""
    try:
        told = os.fstat(1)
    except OSError:
        return None
    return told.st_dev, told.st_ino


def _reader_left() -> bool:
    """Of stdout or stderr. Sockets to servers break in the same way."""
    outputs = select.poll()
    outputs.register(1, 0)
    outputs.register(2, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in outputs.poll(0))


def _run(name: str, arguments: list[str]) -> None:
    module, attribute, _ = COMMANDS[name]
    target = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command()(target)
        target = app
    elif not arguments and not target.info.invoke_without_command:
        arguments = ["--help"]  # a group of commands that does nothing by itself
    try:
        code = target(
            args=arguments,
            prog_name=f"minwatt {name}",
            standalone_mode=False,
            help_option_names=["-h", "--help"],
        )
    except UsageError as error:
        _mistake(name, str(error))
    except typer.TyperException as error:
        _mistake(name, error.format_message())
    sys.exit(code or 0)


def _mistake(name: str, line: str) -> NoReturn:
    print(f"minwatt {name}: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, _, summary) in COMMANDS.items())
    return (
        f"{TAGLINE}\n\nUsage: minwatt COMMAND [OPTIONS]\n       minwatt COMMAND --help\n\n"
        f"Commands:\n{rows}\n\n"
        "Example: minwatt up        then send requests to the port it prints"
    )


def _print(text: str) -> None:
    print(text)  # noqa: T201 - the command's own output
