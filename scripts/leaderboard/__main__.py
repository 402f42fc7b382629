"""`python -m scripts.leaderboard --traces DIR`: runs what is not kept yet, then writes the document anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from loadtest.trace import read_trace
from loadtest.trace_kinds import BinnedTrace
from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import parse_duration_s
from scripts.leaderboard.board import Board, load
from scripts.leaderboard.cells import FLEETS, OFF, Fleet, cells
from scripts.leaderboard.document import document
from scripts.leaderboard.plots import ratios, replicas
from scripts.leaderboard.runs import Place, run_all
from scripts.leaderboard.verdicts import verdicts

_ENDING = ".csv.gz"
_ALL = ",".join(fleet.name for fleet in FLEETS)
_SHORT_S = 86_400.0  # parked watts are varied on traces of at most a day
_CURVES_OF = ("azure_llm_conv_2023", "servegen_deepseek_r1_24h", "wc98_group_1min")


def leaderboard(
    traces: Annotated[Path, typer.Option(metavar="DIR", help="Traces, NAME.csv.gz with t_s,count.")],
    out: Annotated[Path, typer.Option(help="The document.")] = Path("docs/leaderboard.md"),
    kept: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("out/leaderboard"),
    jobs: Annotated[int, typer.Option(help="Cells at a time.", min=1)] = 2,
    first: Annotated[str, typer.Option(help="Of each trace, its first part alone. [all]")] = "",
    only: Annotated[str, typer.Option(help="Traces whose names hold this. [all]")] = "",
    fleets: Annotated[str, typer.Option(help="Of these.")] = _ALL,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Only write the document anew, of whatever is kept.")
    ] = False,
) -> None:
    """All contenders over all traces. Stopped and started again, it goes on where it was.

    Example: python -m scripts.leaderboard --traces traces/ --fleets a100
    """
    found = _durations(traces, only)
    chosen = [fleet for fleet in FLEETS if fleet.name in fleets.split(",")]
    place = Place(traces, kept, _first_s(first))
    todo = list(cells(chosen, found, [name for name, duration_s in found.items() if duration_s <= _SHORT_S]))
    if not no_run:
        for line in run_all(todo, place, jobs):
            typer.echo(line)
    board = load(todo, place, stale_too=no_run)
    folder = out.parent / out.stem
    pictures = _draw(board, chosen, folder)
    text = document(board, chosen, verdicts(board, chosen), pictures, first)
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written: {out}, {len(pictures)} pictures in {folder}")


def _first_s(first: str) -> float | None:
    try:
        return parse_duration_s(first) if first else None
    except ValueError as error:
        raise UsageError(f"--first = {first!r}: {error}") from error


def _durations(folder: Path, only: str) -> dict[str, float]:
    """Binned traces by name, with how long they are. One row a request is left out: its bins are there."""
    if not folder.is_dir():
        raise UsageError(
            f"--traces = {str(folder)!r}: no such directory; allowed: one with NAME{_ENDING} files"
        )
    found = {}
    for file in sorted(folder.glob(f"*{_ENDING}")):
        name = file.name.removesuffix(_ENDING)
        trace = read_trace(file, strict=True) if only in name else None
        if isinstance(trace, BinnedTrace) and np.nansum(trace.counts) > 0:
            found[name] = trace.duration_s
    if not found:
        raise UsageError(
            f"--traces = {str(folder)!r}: holds no binned trace; allowed: NAME{_ENDING}, t_s,count"
        )
    return found


def _draw(board: Board, fleets: list[Fleet], folder: Path) -> list[str]:
    """Writes the pictures; gives the Markdown that shows them."""
    drawn: dict[str, tuple[str, str]] = {}
    for fleet in fleets:
        for clocks in (OFF, *fleet.clock_sets[:1]):
            runs = board.main(fleet, clocks)
            title = f"{fleet.title}, clocks {clocks}"
            if runs:
                drawn[f"ratios-{fleet.name}-{clocks}"] = (
                    title,
                    ratios(runs, f"Joules over the optimum's: {title}"),
                )
    for one in board.main(fleets[0], OFF) if fleets else []:
        if one.cell.trace in _CURVES_OF:
            title = f"{one.cell.trace}, {fleets[0].title}, clocks {OFF}"
            drawn[f"replicas-{one.cell.trace}"] = title, replicas(one, f"Ready replicas: {title}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, svg) in drawn.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return [f"![{title}]({folder.name}/{name}.svg)\n" for name, (title, _) in drawn.items()]


def _main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(leaderboard)
    try:
        app(standalone_mode=False)
    except (UsageError, typer.TyperException) as error:
        typer.echo(f"leaderboard: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    _main()
