"""`minwatt profile`: flags to a grid, the grid through real replicas, their points to a profile file.

Parses, calls, prints. `minwatt profile show` is `profile_show`'s.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minwatt.commands.grid import LEFT_ALONE, Grid
from minwatt.commands.measure import Setup, measure
from minwatt.commands.profile_device import CPU, Device, find_device
from minwatt.commands.profile_points import Heading, PointsFile, points_file
from minwatt.commands.profile_show import print_profile, show
from minwatt.resources import default_model_dir, model_dir
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from minwatt.v1.quantities import parse_duration_s
from scaler.fit import Subject, fit
from scaler.profile import Point, Profile, ReplicaSetup, save_profile

Number = TypeVar("Number", int, float)

DEFAULT_OUT = Path("out/profile.yaml")
LEAST_BATCH_TOKENS = 1024  # the server's own: what a replica is given where the largest batch needs no more
ENGINE_THREADS = 1
PROVIDERS = (CPU, "cuda", "tensorrt")

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("show")(show)


@app.callback()
def profile(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Profile file to write.")] = DEFAULT_OUT,
    model: Annotated[
        Path | None, typer.Option(help="Model directory, or a shipped model's name. [default: support-text]")
    ] = None,
    variants: Annotated[str, typer.Option(help="Precision variants. [default: the model's own]")] = "",
    provider: Annotated[str, typer.Option(help="cpu, cuda or tensorrt.")] = CPU,
    meter: Annotated[str, typer.Option(help="Source of watts, as in `minwatt serve`.")] = "auto",
    batches: Annotated[str, typer.Option(help="Max batch sizes, texts.")] = "1,4,16",
    delays: Annotated[str, typer.Option(help="Max queue delays.")] = "0ms,10ms",
    tokens: Annotated[str, typer.Option(help="Text lengths, tokens.")] = "8,16,48",
    loads: Annotated[
        str, typer.Option(help="Offered loads, fractions of the throughput.")
    ] = "0.3,0.6,0.85,1.2",
    clocks: Annotated[
        str, typer.Option(help="SM clocks to hold a GPU at, MHz, e.g. 1410,1175. [default: left alone]")
    ] = "",
    node_agent: Annotated[
        Path | None,
        typer.Option(help="Socket of the node agent, which sets clocks where we may not."),
    ] = None,
    point: Annotated[str, typer.Option(help="How long each point is measured.")] = "4s",
    slo: Annotated[str, typer.Option(help="Latency that the throughput is stated for.")] = "50ms",
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the profile as JSON too.")] = False,
) -> None:
    """Measure latency and watts of a model on this machine: batch × delay × text length × load.

    And × variant and × GPU clock where asked. Nothing else should run meanwhile. Each point is kept in
    OUT.points.jsonl as it comes: the same command goes on where it was stopped. When OUT is written, which
    holds the points too, that file is removed. Exit code 1: stopped before the end.

    Example: minwatt profile --out out/profile.yaml, and then minwatt profile show out/profile.yaml
    """
    if context.invoked_subcommand is not None:
        _nothing_given(context, context.invoked_subcommand)
        return
    directory = ModelDirectory.open(model_dir(model or default_model_dir()))
    grid = Grid(
        variants=_variants(directory, variants),
        batches=_numbers("--batches", batches, int),
        delays_s=tuple(dict.fromkeys(_duration("--delays", part) for part in delays.split(","))),
        text_tokens=_numbers("--tokens", tokens, int),
        loads=_numbers("--loads", loads, float),
        clocks_mhz=_clocks(clocks, provider),
    )
    if node_agent is not None and grid.full_clock_mhz == LEFT_ALONE:
        raise UsageError(f"--node-agent = {str(node_agent)!r}: of no use without --clocks")
    slo_s, point_s = _positive("--slo", slo), _positive("--point", point)
    _check_writable(out)
    device = find_device(provider, meter)
    heading = Heading(
        model=directory.spec.name,
        model_version=directory.spec.version,
        device=device.name,
        meter=device.meter,
        replica=ReplicaSetup(
            engine_threads=ENGINE_THREADS,
            max_batch_tokens=max(LEAST_BATCH_TOKENS, grid.most_padded_tokens),
            provider=provider,
        ),
        grid=grid,
        point_s=point_s,
        seed=seed,
        started_at=datetime.now(UTC).replace(microsecond=0),
    )
    console = Console(stderr=json)
    file = PointsFile.open(points_file(out), heading)
    _measure(file, _setup(heading, directory, meter, device, node_agent), console)
    result = _fitted(file, directory, slo_s)
    save_profile(result, out)
    file.remove()
    print_profile(result, console)
    console.print(f"written to {out}")
    if json:
        print(result.model_dump_json(indent=2))  # noqa: T201 - the command's own output


def _nothing_given(context: typer.Context, command: str) -> None:
    """Options of the measurement say nothing to another command."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name}: goes with measuring, not with {command}")


def _setup(
    heading: Heading, directory: ModelDirectory, meter: str, device: Device, node_agent: Path | None
) -> Setup:
    flags = ["--model", str(directory.path), "--meter", meter, "--provider", heading.replica.provider]
    flags += ["--engine-threads", str(heading.replica.engine_threads)]
    if heading.grid.full_clock_mhz != LEFT_ALONE:
        flags.append("--gpu-clocks")
    if node_agent is not None:
        flags += ["--node-agent", str(node_agent)]
    return Setup(
        tuple(flags), heading.replica.max_batch_tokens, heading.point_s, heading.seed, card=device.card
    )


def _measure(file: PointsFile, setup: Setup, console: Console) -> None:
    """What the file lacks. Stopped by the user, it says how to go on, and the exit code is 1."""
    total, done = len(file.heading.grid), len(file.rows)
    if done:
        console.print(f"going on after {done} of {total} points in {file.path}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        beginning = "starting a replica" if done < total else "every point is there"
        task = progress.add_task(beginning, total=total, completed=done)

        def on_point(point: Point) -> None:
            progress.update(task, advance=1, description=_line(point))

        try:
            asyncio.run(measure(setup, file.heading.grid, file, on_point))
        except KeyboardInterrupt:
            progress.stop()
            kept = f"{len(file.rows)} of {total} points are kept in {file.path}"
            console.print(f"stopped: {kept}; the same command goes on from there")
            raise typer.Exit(1) from None


def _line(point: Point) -> str:
    watts = "watts unknown" if point.watts is None else f"{point.watts:.2f} W"
    if point.p99_s is None or point.batch_mean_texts is None:
        return f"{point.variant} idle: {watts}"
    at_clock = f" at {point.sm_clock_mhz} MHz" if point.sm_clock_mhz else ""
    return (
        f"{point.variant}{at_clock}, {point.text_tokens:.0f} tokens, batch ≤ {point.max_batch_texts},"
        f" {point.completed_rps:.0f} rps:"
        f" p99 {1000 * point.p99_s:.1f} ms, batch {point.batch_mean_texts:.1f}, {watts}"
    )


def _fitted(file: PointsFile, directory: ModelDirectory, slo_latency_s: float) -> Profile:
    heading, rows = file.heading, file.rows
    subject = Subject(
        model=heading.model,
        model_version=heading.model_version,
        device=heading.device,
        measured_at=heading.started_at,
        meter=heading.meter,
        replica=heading.replica,
        accuracies={name: _accuracy(directory, name) for name in heading.grid.variants},
    )
    parked_w = 0.0 if rows.parked is None else rows.parked.watts
    try:
        return fit(
            subject,
            rows.points(heading.grid),
            rows.start_up(),
            slo_latency_s=slo_latency_s,
            parked_w=parked_w,
        )
    except ValueError as error:
        raise UsageError(f"the points can't be fitted: {error}; they are kept in {file.path}") from error


def _accuracy(directory: ModelDirectory, variant: str) -> float | None:
    """The lowest of the tasks': what a policy's floor is held against."""
    metrics = directory.spec.variants[variant].metrics
    return min((value for name, value in metrics.items() if name.endswith("accuracy")), default=None)


def _check_writable(out: Path) -> None:
    """Found out now, and not after the measurement."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise UsageError(f"--out = {str(out)!r}: can't be written ({error.strerror})") from error
    if out.is_dir():
        raise UsageError(f"--out = {str(out)!r}: is a directory; expected a file")


def _variants(directory: ModelDirectory, text: str) -> tuple[str, ...]:
    """Variants whose graphs are there, as the model directory names them."""
    names = tuple(dict.fromkeys(text.split(","))) if text else (directory.spec.default_variant,)
    for name in names:
        directory.variant_file(name)
    return names


def _clocks(text: str, provider: str) -> tuple[int, ...]:
    """Fastest first: the first is the full clock, to which the others are compared."""
    if provider not in PROVIDERS:
        raise UsageError(f"--provider = {provider!r}: allowed: {', '.join(PROVIDERS)}")
    if not text:
        return (LEFT_ALONE,)
    if provider == CPU:
        allowed = "allowed: none with --provider cpu, whose clock is left alone"
        raise UsageError(f"--clocks = {text!r}: {allowed}")
    clocks_mhz = sorted(set(_numbers("--clocks", text, int)), reverse=True)
    if len(clocks_mhz) < 2:
        raise UsageError(f"--clocks = {text!r}: allowed: two or more, the card's highest first")
    return tuple(clocks_mhz)


def _numbers(flag: str, text: str, number: type[Number]) -> tuple[Number, ...]:
    """Comma-separated numbers above 0, each once."""
    try:
        values = tuple(dict.fromkeys(number(part) for part in text.split(",")))
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


def _positive(flag: str, text: str) -> float:
    duration_s = _duration(flag, text)
    if not duration_s:
        raise UsageError(f"{flag} = {text!r}: allowed: a duration above 0")
    return duration_s
