"""`minwatt plan`: parses, calls, prints; nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from minwatt.commands.output import print_whole
from minwatt.commands.plan_result import FleetPlan, Plan, Source, plan_for
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import format_power
from scaler.inputs import check_clock_set, read_pair
from scaler.settings import Settings

_HEADS = (
    "fleet",
    "SLO",
    "replicas",
    "batch",
    "delay",
    "clock",
    "variant",
    "W",
    "idle",
    "busy",
    "tail",
    "load",
)
_MARKS = {True: "✓", False: "✗"}


def plan(
    policy: Annotated[Path, typer.Option(metavar="FILE", help="PowerPolicy file.")],
    profile: Annotated[
        list[Path], typer.Option(metavar="FILE", help="Profile file; several are pools planned together.")
    ],
    rps: Annotated[float, typer.Option(help="Requests a second to be expected; watts are counted at it.")],
    upper_rps: Annotated[
        float | None, typer.Option(help="Requests a second that must be within the SLO. [--rps]")
    ] = None,
    clock_set: Annotated[
        str, typer.Option(metavar="NAME", help="Of the profile's clock sets. [its first]")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The fleet that the planner chooses for a steady rate, what it is predicted to draw, and alternatives.

    Exit code 1: no fleet that the policy allows holds the SLO within its budget.

    Example: minwatt plan --policy examples/policy-a100.yaml
    --profile profiles/reference/a100-bert-base-int8.yaml --profile profiles/reference/t4-bert-base-int8.yaml
    --rps 50000 --upper-rps 60000
    """
    _check_rate("--rps", rps)
    upper = rps if upper_rps is None else upper_rps
    _check_rate("--upper-rps", upper)
    if upper < rps:
        raise UsageError(f"--upper-rps = {upper:g}: allowed: --rps ({rps:g}) or more")
    sources = [_source(policy, file, clock_set) for file in profile]
    _check_versions(sources)
    found = plan_for(str(policy), sources, rps, upper)
    if json:
        print(found.model_dump_json(indent=2))  # noqa: T201 - the command's own output
    else:
        _show(found)
    if not (found.holds_slo and found.within_budget):
        raise typer.Exit(1)


def _check_rate(flag: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{flag} = {value:g}: allowed: a number above 0")


def _source(policy: Path, profile: Path, clock_set: str) -> Source:
    wanted, measured = read_pair(policy, profile)
    check_clock_set(clock_set, wanted, measured, profile)
    return Source(str(profile), Settings(wanted, measured, clock_set=clock_set))


def _check_versions(sources: list[Source]) -> None:
    """Pools answer the same requests: with the same version of the model."""
    first = sources[0]
    for one in sources[1:]:
        version, asked = one.settings.profile.model_version, first.settings.profile.model_version
        if version != asked:
            raise UsageError(f"{one.file}: model_version = {version!r}: {first.file} is of {asked!r}")


def _show(found: Plan) -> None:
    typer.echo(_headline(found) + "\n")
    chosen = [(part, part.fleet) for part in found.pools if part.fleet is not None]
    many = len(found.pools) > 1
    rows = [(f"{part.profile} {part.share:.0%}" if many else fleet.what, fleet) for part, fleet in chosen]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, head in enumerate(_HEADS):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for what, fleet in rows:
        table.add_row(what, *_cells(fleet), style="bold")
    for fleet in found.alternatives:
        table.add_row(fleet.what, *_cells(fleet), style="" if fleet.holds_slo else "dim")
    print_whole(table, Console())
    typer.echo("\nPredicted, one text a request.")
    for part in found.pools:
        typer.echo(f"{part.profile}: {part.bases}.")
    for _, fleet in chosen:
        if fleet.gives_up:
            typer.echo(
                f"Over the budget of {format_power(found.budget_w or 0.0)}: {', '.join(fleet.gives_up)}."
            )


def _headline(found: Plan) -> str:
    upper = f" (up to {found.upper_rps:g})" if found.upper_rps > found.rps else ""
    asked = f"{found.rps:g} requests/s{upper}"
    fleets = [part.fleet for part in found.pools if part.fleet is not None]
    if found.problem is not None or found.watts is None or not fleets:
        return f"{asked}: {found.problem}"
    replicas = sum(fleet.replicas for fleet in fleets)
    many = "" if replicas == 1 else "s"
    idle_w, busy_w = sum(fleet.idle_w for fleet in fleets), sum(fleet.busy_w for fleet in fleets)
    tails = ", ".join(_tail(fleet) for fleet in fleets)
    joules = "" if found.joules_per_request is None else f"; {found.joules_per_request:.3g} J a request"
    missed = [] if found.holds_slo else ["the SLO"]
    missed += [] if found.within_budget else [f"the budget of {format_power(found.budget_w or 0.0)}"]
    problem = f"; no fleet that the policy allows holds {' and '.join(missed)}" if missed else ""
    return (
        f"{asked}: {replicas} replica{many}, {found.watts:.3g} W ({idle_w:.3g} W idle,"
        f" {busy_w:.3g} W busy); p{found.percentile:g} {tails} of {found.slo_ms:g} ms{joules}{problem}"
    )


def _cells(one: FleetPlan) -> list[str]:
    point = one.point
    clock = f"{point.sm_clock_mhz} MHz" if point.sm_clock_mhz else "–"
    return [
        _MARKS[one.holds_slo],
        str(one.replicas),
        f"≤ {point.max_batch_texts}",
        f"{point.max_delay_ms:g} ms",
        clock,
        point.variant,
        f"{one.watts:,.1f}",
        f"{one.idle_w:,.1f}",
        f"{one.busy_w:,.1f}",
        _tail(one),
        f"{one.load:.0%}",
    ]


def _tail(one: FleetPlan) -> str:
    return "–" if one.tail_ms is None else f"{one.tail_ms:.1f} ms"
