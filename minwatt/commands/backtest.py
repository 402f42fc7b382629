"""`minwatt backtest`: parses, calls, prints; nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from minwatt.commands.backtest_document import document
from minwatt.commands.backtest_result import MINWATT
from minwatt.commands.backtest_run import USUAL, Finished, Options, Prepared, names, prepare, run
from minwatt.commands.backtest_table import backtest_table, headline, sentences, title
from minwatt.commands.output import print_whole
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import parse_duration_s
from report.document import as_json
from report.files import HTML_HELP, MARKDOWN_HELP, Destinations
from report.provenance import provenance


def backtest(
    policy: Annotated[Path, typer.Option(metavar="FILE", help="PowerPolicy file.")],
    profile: Annotated[Path, typer.Option(metavar="FILE", help="Profile file.")],
    trace: Annotated[
        Path, typer.Option(metavar="FILE", help="CSV `t_s,count`, or one row a request; gzip too.")
    ],
    against: Annotated[str, typer.Option(help="Contenders beside minwatt and optimum.")] = ",".join(USUAL),
    peak_rps: Annotated[
        float | None, typer.Option(help="Scales the rates so that the busiest bin has this one.")
    ] = None,
    arrival_cv: Annotated[float, typer.Option(help="Inside a bin: 1 Poisson, above 1 bursty.")] = 1.0,
    parked_watts: Annotated[
        float | None, typer.Option(help="Of a removed replica's device. [the profile's]")
    ] = None,
    clock_set: Annotated[
        str, typer.Option(metavar="NAME", help="Of the profile's clock sets. [its first]")
    ] = "",
    carbon: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV `t_s,timestamp_utc,gco2_per_kwh`. [the policy's]")
    ] = None,
    first: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only the trace's first part.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same result.", min=0)] = 0,
    detail: Annotated[str, typer.Option(help="binned (fast), or exact (each batch).")] = "binned",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help=HTML_HELP)] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help=MARKDOWN_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """A trace through minwatt, through other autoscalers and through the clairvoyant optimum: joules and SLO.

    Contenders: minwatt, optimum, static, hpa, hpa-tuned, kpa, keda-rate, ray-serve, latency-ratio; also
    static-slack, hpa-slack, hpa-bounded, keda-rate-slow. All are simulated: no replica is started.
    Exit code 1: minwatt misses the SLO on this trace.

    Example: minwatt backtest --policy examples/policy.yaml --profile profiles/support-text-cpu.yaml
    --trace trace.csv.gz --peak-rps 500 --against static,hpa,keda-rate
    """
    options = Options(
        against=tuple(name.strip() for name in against.split(",") if name.strip()),
        peak_rps=_above_zero("--peak-rps", peak_rps),
        first_s=None if first is None else _duration(first),
        arrival_cv=_within("--arrival-cv", arrival_cv, 0.1, 20.0),
        parked_w=None if parked_watts is None else _within("--parked-watts", parked_watts, 0.0, 1e6),
        clock_set=clock_set,
        carbon=carbon,
        seed=seed,
        detail=_detail(detail),
    )
    files = Destinations(html, markdown)
    files.check()
    finished = _run(prepare(policy, profile, trace, options))
    found = document(finished, provenance(finished.result.assumptions.watts_basis))
    files.write(found)
    if json:
        print(as_json(found))  # noqa: T201 - the command's own output
    else:
        _show(finished)
    own = finished.result.row(MINWATT)
    if own is not None and not own.keeps_slo:
        raise typer.Exit(1)


def _run(prepared: Prepared) -> Finished:
    """Progress goes to stderr, so that stdout is JSON alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    contenders = names(prepared.options)
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("sizing the static fleet", total=len(contenders))

        def on_contender(name: str) -> None:
            progress.update(task, completed=contenders.index(name), description=name)

        return run(prepared, on_contender)


def _show(finished: Finished) -> None:
    result, table = finished.result, backtest_table(finished.result)
    typer.echo(title(result) + "\n")
    print_whole(table, Console())
    typer.echo()
    for line in [headline(result), *sentences(result)]:
        typer.echo(line)


def _detail(text: str) -> Literal["binned", "exact"]:
    if text not in ("binned", "exact"):
        raise UsageError(f"--detail = {text!r}: allowed: binned, exact")
    return "binned" if text == "binned" else "exact"


def _above_zero(flag: str, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{flag} = {value:g}: allowed: a number above 0")
    return value


def _within(flag: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise UsageError(f"{flag} = {value:g}: allowed: {low:g} to {high:g}")
    return value


def _duration(text: str) -> float:
    try:
        duration_s = parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"--first = {text!r}: {error}") from error
    if duration_s <= 0:
        raise UsageError(f"--first = {text!r}: allowed: above 0s")
    return duration_s
