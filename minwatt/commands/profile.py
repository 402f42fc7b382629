"""`minwatt profile`: flags to a grid, the grid through a real replica, its points to a profile file."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from energy import MeterSpecError, MeterUnavailable, open_meter
from energy.modelled import ModelledMeter
from minwatt.commands.grid import Grid
from minwatt.commands.measure import Measured, Setup, measure, source_of
from minwatt.resources import default_model_dir
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import parse_duration_s
from scaler.profile import MeterNote, Point, Profile, ReplicaSetup, Subject, fit, save_profile

Number = TypeVar("Number", int, float)

DEFAULT_OUT = Path("out/profile.yaml")
MAX_BATCH_TOKENS = 2048
ENGINE_THREADS = 1
IDLE_S = 5.0
POOR_FIT = 0.25  # residual as a fraction of the measurement above which the fit is called poor


def profile(
    out: Annotated[Path, typer.Option(help="Profile file to write.")] = DEFAULT_OUT,
    model: Annotated[Path | None, typer.Option(help="Model directory. [default: the shipped one]")] = None,
    variant: Annotated[str | None, typer.Option(help="Precision variant. [default: the model's own]")] = None,
    meter: Annotated[str, typer.Option(help="Source of watts, as in `minwatt serve`.")] = "auto",
    batches: Annotated[str, typer.Option(help="Max batch sizes, texts.")] = "1,4,16",
    delays: Annotated[str, typer.Option(help="Max queue delays.")] = "0ms,10ms",
    tokens: Annotated[str, typer.Option(help="Text lengths, tokens.")] = "8,16,48",
    loads: Annotated[
        str, typer.Option(help="Offered loads, fractions of the throughput.")
    ] = "0.3,0.6,0.85,1.2",
    point: Annotated[str, typer.Option(help="How long each point is measured.")] = "4s",
    slo: Annotated[str, typer.Option(help="Latency that the throughput is stated for.")] = "50ms",
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the profile as JSON too.")] = False,
) -> None:
    """Measure latency and watts of a model on this machine, over batch × delay × text length × load.

    Nothing else should run meanwhile. Example: minwatt profile --out profiles/support-text-cpu.yaml
    """
    grid = Grid(
        batches=_numbers("--batches", batches, int),
        delays_s=tuple(_duration("--delays", part) for part in delays.split(",")),
        text_tokens=_numbers("--tokens", tokens, int),
        loads=_numbers("--loads", loads, float),
    )
    flags = ["--model", str(model or default_model_dir()), "--meter", meter]
    flags += ["--engine-threads", str(ENGINE_THREADS), *(["--variant", variant] if variant else [])]
    setup = Setup(tuple(flags), MAX_BATCH_TOKENS, _duration("--point", point), IDLE_S, seed)
    slo_s = _duration("--slo", slo)
    _check_writable(out)
    console = Console(stderr=json)
    measured = _measured(setup, grid, console)
    try:
        result = fit(_subject(measured, meter), measured.points, measured.start_up, slo_latency_s=slo_s)
    except ValueError as error:
        raise UsageError(f"the points can't be fitted: {error}") from error
    save_profile(result, out)
    _show(result, out, console)
    if json:
        print(result.model_dump_json(indent=2))  # noqa: T201 - the command's own output


def _check_writable(out: Path) -> None:
    """Found out now, and not after the measurement."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise UsageError(f"--out = {str(out)!r}: can't be written ({error.strerror})") from error
    if out.is_dir():
        raise UsageError(f"--out = {str(out)!r}: is a directory; expected a file")


def _measured(setup: Setup, grid: Grid, console: Console) -> Measured:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting a replica", total=len(grid) + 1)

        def on_point(point: Point) -> None:
            progress.update(task, advance=1, description=_line(point))

        return asyncio.run(measure(setup, grid, on_point))


def _line(point: Point) -> str:
    if point.p99_s is None or point.batch_mean_texts is None:
        return f"idle: {_watts(point.watts)}"
    return (
        f"{point.text_tokens:.0f} tokens, batch ≤ {point.max_batch_texts}, {point.completed_rps:.0f} rps:"
        f" p99 {1000 * point.p99_s:.1f} ms, batch {point.batch_mean_texts:.1f}, {_watts(point.watts)}"
    )


def _watts(watts: float | None) -> str:
    return "watts unknown" if watts is None else f"{watts:.2f} W"


def _subject(measured: Measured, meter: str) -> Subject:
    ready = measured.ready
    return Subject(
        model=ready.model,
        model_version=ready.model_version,
        variant=ready.variant,
        device=_cpu(),
        measured_at=datetime.now(UTC).replace(microsecond=0),
        meter=_meter_note(source_of(ready), meter),
        replica=ReplicaSetup(engine_threads=ENGINE_THREADS, max_batch_tokens=MAX_BATCH_TOKENS),
    )


def _meter_note(source: str, spec: str) -> MeterNote:
    """The source that the replica reported, and what a modelled one assumes."""
    try:
        meter = open_meter(spec)
    except (MeterSpecError, MeterUnavailable) as error:
        raise UsageError(f"--meter: {error}") from error
    try:
        if source != "modelled" or not isinstance(meter, ModelledMeter):
            return MeterNote(source=source)
        return MeterNote(
            source=source,
            parameters={"idle_w": meter.idle_w, "busy_w_per_core": meter.busy_w_per_core},
            notes="modelled from CPU time, not measured: published averages per vCPU, see energy/modelled.py",
        )
    finally:
        meter.close()


def _cpu() -> str:
    """The processor's name as the kernel knows it, and its cores."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _numbers(flag: str, text: str, number: type[Number]) -> tuple[Number, ...]:
    """Comma-separated numbers above 0."""
    try:
        values = tuple(number(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not all(math.isfinite(value) and value > 0 for value in values) or not values:
        raise UsageError(f"{flag} = {text!r}: allowed: comma-separated numbers above 0")
    return values


def _duration(flag: str, text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"{flag} = {text!r}: {error}") from error


def _show(profile: Profile, out: Path, console: Console) -> None:
    table = Table(title=f"{profile.model} {profile.model_version} {profile.variant} on {profile.device}")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("residual", justify="right")
    time_, power = profile.service_time, profile.power
    source = profile.meter.source
    table.add_row("compute a batch", f"{1000 * time_.alpha_s:.2f} ms", f"{time_.residual_fraction:.1%}")
    table.add_row("  and a padded token", f"{1e6 * time_.beta_s_per_token:.1f} µs", "")
    table.add_row(f"idle watts ({source})", f"{power.idle_w:.2f} W", f"{power.residual_fraction:.1%}")
    table.add_row(f"busy watts ({source})", f"{power.busy_w:.2f} W", "")
    table.add_row(
        "start-up", f"{profile.start_up.seconds:.1f} s, {profile.start_up.joules:.1f} J ({source})", ""
    )
    best = profile.max_rps_at_slo
    rps = "none" if best.rps is None else f"{best.rps:.0f} requests/s"
    table.add_row(f"throughput at p99 ≤ {1000 * best.latency_s:.0f} ms", rps, "")
    console.print(table)
    for name, residual in (("service time", time_.residual_fraction), ("watts", power.residual_fraction)):
        if residual > POOR_FIT:
            console.print(
                f"[yellow]{name}: the fit is poor ({residual:.0%} off); measure longer, on an idle machine"
            )
    console.print(f"{len(profile.points)} points, written to {out}")
