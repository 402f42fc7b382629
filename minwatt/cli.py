"""The `minwatt` command: finds a subcommand's component by name and loads it only then.

Owns no behaviour: each component has a `cli` module of its own. A mistake becomes one line on stderr.
Exit codes: 0 good, 1 the job ran and the answer is bad, 2 bad usage.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from minwatt.v1.errors import UsageError

# name -> (module, attribute, summary); the attribute is a function that typer reads, or a typer app
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("scaler.cli", "up", "the whole system on this machine: scaler and replicas sharing one port"),
    "serve": ("service.cli", "serve", "one replica: serve a model over gRPC"),
    "scale": ("scaler.cli", "scale", "the scaler alone, for replicas that join it"),
    "key": ("service.key_cli", "app", "API keys for the tenants of a server"),
    "replay": ("loadtest.cli", "replay", "open-loop load from a trace or a generator, and its report"),
    "profile": ("minwatt.commands.profile", "app", "measure a model's latency and watts; show a profile"),
    "plan": ("minwatt.commands.plan", "plan", "the fleet that the planner chooses for a steady rate"),
    "backtest": (
        "minwatt.commands.backtest",
        "backtest",
        "a recorded trace through minwatt and other autoscalers, simulated",
    ),
    "model": ("minwatt.commands.model", "app", "fine-tune, build, quantize, measure and choose models"),
    "node-agent": ("nodeagent.cli", "node_agent", "GPU clocks and watts for a node's replicas; needs root"),
    "policy": ("scaler.cli", "policy_app", "check a PowerPolicy"),
}
TAGLINE = "Text classification and entity recognition over gRPC at minimum watts under a latency SLO."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `minwatt ARGUMENTS` (default: the process's own) and exits with its code."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in {"--help", "-h"}:
        _print(_help())
    elif name == "--version":
        _print(f"minwatt {importlib.metadata.version('minwatt')}")
    elif name in COMMANDS:
        _run(name, rest)
    else:
        print(f"minwatt: command = {name!r}: not known; allowed: {', '.join(COMMANDS)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


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
        code = target(args=arguments, prog_name=f"minwatt {name}", standalone_mode=False)
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
