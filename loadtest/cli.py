"""`minwatt replay`: parses, calls, prints; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from loadtest.identity import IdentityOptions
from loadtest.load import LoadOptions, flag, make_load
from loadtest.replay import RunOptions, run_load
from loadtest.report import Report, RunReport, load_run, report_of, write_report
from loadtest.runs import make_folder, run_folders, write_run
from loadtest.summary import summarise
from loadtest.tables import headline, runs_table, warnings
from minwatt.v1.errors import UsageError, one_line


def replay(
    target: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server to send to.")] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV `t_s,count` or `t_s,…`; gzip too.")
    ] = None,
    capture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `minwatt serve --capture`; a folder is all of its files."),
    ] = None,
    generate: Annotated[
        str | None, typer.Option(metavar="SHAPE", help="constant, poisson, diurnal, ramp or steps.")
    ] = None,
    duration: Annotated[str | None, typer.Option(help="How long, e.g. 90s; a trace's first part.")] = None,
    peak_rps: Annotated[float | None, typer.Option(help="Highest rate; a trace is scaled to it.")] = None,
    rate_scale: Annotated[
        float | None, typer.Option(help="Multiplies a trace's rate; never thins it.")
    ] = None,
    time_scale: Annotated[
        float | None, typer.Option("--time-scale", "--speed", help="60 plays a trace's hour in a minute.")
    ] = None,
    arrivals_cv: Annotated[
        float | None, typer.Option(help="Burstiness: 0 even, 1 Poisson, above 1 bursty.")
    ] = None,
    start_rps: Annotated[
        float | None, typer.Option(help="ramp, steps: the first rate, to --peak-rps. [0]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="steps: how many, of equal length. [5]")] = None,
    trough: Annotated[float | None, typer.Option(help="diurnal: night's rate over the day's. [0.15]")] = None,
    flash_crowds: Annotated[int | None, typer.Option(help="diurnal: how many. [1]")] = None,
    flash_factor: Annotated[float | None, typer.Option(help="diurnal: a flash crowd's height. [2]")] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same load.")] = 0,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One text a line. [packaged ones]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="classify, extract or mixed. [mixed]")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="Of each request, retries included. [1s; a capture's own]")
    ] = None,
    slo: Annotated[str | None, typer.Option(help="p99 from the planned send time, e.g. 50ms.")] = None,
    connections: Annotated[int, typer.Option(help="TCP connections to spread requests over.")] = 16,
    processes: Annotated[int, typer.Option(help="Sending processes; one sends what one core can.")] = 1,
    abort_over: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Stop when more of the answers of 10 s are over the SLO, refused or failed."
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; so does each of --tls-….")] = False,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM: authorities to trust. [gRPC's own]")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM certificate chain to show (mTLS).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM key of the certificate.")] = None,
    tls_server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="In the server's certificate, if not the target's.")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with the API key alone."),
    ] = None,
    allow_plaintext_key: Annotated[
        bool, typer.Option("--allow-plaintext-key", help="Send the key without TLS to another machine.")
    ] = False,
    fleet_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="fleet.jsonl of `minwatt up`.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the run, in the report.")] = "minwatt",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Raw results; report of all runs in it.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Send nothing: compute the report in --out anew.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json instead of a table.")] = False,
) -> None:
    """Sends load open loop, on schedule whatever the server does, and reports what came back.

    Latency counts from the planned send time. Runs with the same --out and different --name share one report.
    Exit code 1: a request failed, the SLO was missed, or the run was stopped.

    Example: minwatt replay --target 127.0.0.1:8500 --generate poisson --peak-rps 100 --slo 50ms
    """
    given = dict(locals())  # the parameters by name, before anything else is
    load_fields = {flag(field): given[_parameter(field)] for field in LoadOptions.model_fields}
    identity_fields = {flag(field): given[_parameter(field)] for field in IdentityOptions.model_fields}
    run_fields = {flag(field): given[_parameter(field)] for field in RunOptions.model_fields}
    if report_only:
        _print(_report_anew(out, target), json)
        return
    run_options = _checked(RunOptions, run_fields)
    load_options = _checked(LoadOptions, load_fields)
    who = _checked(IdentityOptions, identity_fields)
    who.identity(run_options.target)  # what is wrong with it is told before anything else is done
    load = make_load(load_options)
    if deadline is not None:
        load = load.with_one_deadline()
    for line in load.notes:
        typer.echo(line, err=True)
    if out is not None:
        make_folder(out / run_options.name)
    run = run_load(load, load_options.given(), run_options, who)
    if out is not None:
        write_run(out / run.record.name, run)
        report = _report(out)
    else:
        report = report_of([summarise(run)])
    _print(report, json)
    this = next(entry for entry in report.runs if entry.name == run.record.name)
    if this.failed or this.slo_met is False or this.stopped_at_s is not None:
        raise typer.Exit(1)


def _report_anew(out: Path | None, target: str | None) -> Report:
    if out is None or target is not None:
        raise UsageError("--report-only goes with --out DIR and without --target")
    return _report(out)


def _report(out: Path) -> Report:
    runs: Sequence[RunReport] = [load_run(folder) for folder in run_folders(out)]
    if not runs:
        raise UsageError(f"--out = {out}: holds no recorded runs")
    return write_report(sorted(runs, key=lambda run: run.started_at), out)


def _print(report: Report, as_json: bool) -> None:
    for line in warnings(report.runs):
        typer.echo(line, err=True)
    if as_json:
        typer.echo(report.as_json())
        return
    Console().print(runs_table(report.runs))
    for line in headline(report.runs):
        typer.echo(line)


def _parameter(field: str) -> str:
    return field.removesuffix("_s")


_Options = TypeVar("_Options", bound=BaseModel)


def _checked(kind: type[_Options], fields: dict[str, Any]) -> _Options:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise one_line(error, "options") from error
