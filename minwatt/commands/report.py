"""`minwatt report compare A B`: two results beside one another, with what is noise called noise.

Owns which files are compared with which. Leaves the differences of load tests to `loadtest.compare`, those of
backtests to this file, words and looks to `report_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from loadtest.compare import Change, compare
from loadtest.provenance import made_by
from loadtest.runs import RUN_FILE, read_run, run_folders
from loadtest.summary import energy
from minwatt.commands.backtest_result import Backtest, Row
from minwatt.commands.output import print_whole
from minwatt.commands.report_rows import Comparison, Part, as_html, as_markdown, table_of
from minwatt.v1.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Compare results. Example: minwatt report compare out/before/minwatt out/after/minwatt",
)


@app.callback()
def _report() -> None:
    """Keeps `compare` a subcommand: with one command alone, typer would drop its name."""


@app.command(name="compare")
def compare_command(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", help="A run of `minwatt replay` (its folder), or a backtest's JSON."),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
) -> None:
    """By how much B differs from A, with 95% intervals, and which differences are within noise.

    Load tests are cut into blocks of time that are drawn anew 1,000 times; of the same load in pairs.
    Backtests are simulated with fixed seeds: a difference is exact, and says nothing of other traffic.

    Example: minwatt report compare out/before/minwatt out/after/minwatt --html out/compare.html
    """
    found = _compared(a, b, seed)
    for file, text in ((html, as_html), (markdown, as_markdown)):
        if file is not None:
            _write(file, text(found, made_by()))
    if json:
        print(found.as_json(made_by()))  # noqa: T201 - the command's own output
        return
    console = Console()
    console.print(found.title, highlight=False, soft_wrap=True, markup=False)
    for part in found.parts:
        print_whole(table_of(part), console)
    for line in found.notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _compared(a: Path, b: Path, seed: int) -> Comparison:
    kinds = [_kind(path) for path in (a, b)]
    if kinds[0] != kinds[1]:
        raise UsageError(f"{b}: a {kinds[1]}, and {a} is a {kinds[0]}; allowed: two of one kind")
    return _runs(_run_folder(a), _run_folder(b), seed) if kinds[0] == "load test" else _backtests(a, b)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "load test"
    if path.is_file():
        return "backtest"
    raise UsageError(f"{path}: not there; allowed: a folder of `minwatt replay --out`, or a backtest's JSON")


def _run_folder(path: Path) -> Path:
    """A run's own folder, or one that has a single run below it."""
    if (path / RUN_FILE).exists():
        return path
    below = run_folders(path)
    if len(below) != 1:
        names = ", ".join(folder.name for folder in below) or "none"
        raise UsageError(f"{path}: holds {len(below)} runs ({names}); allowed: the folder of one run")
    return below[0]


def _runs(a: Path, b: Path, seed: int) -> Comparison:
    first, second = read_run(a), read_run(b)
    changes = compare(first, second, seed)
    sources = [energy(run)[1:] for run in (first, second)]
    notes = []
    if sources[0] != sources[1]:
        changes = [change for change in changes if change.unit not in {"W", "J"}]
        said = " and ".join(f"{source} ({basis})" for source, basis in sources)
        notes.append(f"joules are not compared: A's and B's are of other kinds: {said}")
    else:
        notes.append(f"joules: {sources[0][0]} ({sources[0][1]})")
    alike = first.record.load == second.record.load
    notes.append(
        "same load: blocks drawn in pairs" if alike else "different loads: the load's own noise counts, too"
    )
    if not alike:
        keys = sorted(first.record.load.keys() | second.record.load.keys())
        differ = [key for key in keys if first.record.load.get(key) != second.record.load.get(key)]
        notes.append("loads differ in: " + ", ".join(differ))
    name = f"{a} (A) and {b} (B)"
    return Comparison(f"Load tests: {name}", (str(a), str(b)), (Part("", changes),), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    unit: str
    less_is_better: bool | None


_OF_ROWS = {
    "energy_j": _Column("energy", "J", True),
    "over_slo_fraction": _Column("over the SLO", "of requests", True),
    "p99_ms": _Column("p99", "ms", True),
    "replicas_mean": _Column("replicas, mean", "", None),
    "reversals": _Column("reversals", "", True),
    "ratio_to_optimum": _Column("energy over the optimum's", "×", True),
}


def _backtests(a: Path, b: Path) -> Comparison:
    first, second = _backtest(a), _backtest(b)
    names = [row.name for row in first.contenders if second.row(row.name) is not None]
    if not names:
        raise UsageError(f"{b}: has no contender of {a}")
    parts = [Part(name, _changes(_row(first, name), _row(second, name))) for name in names]
    differ = [
        f"{field}: {getattr(first, field)} and {getattr(second, field)}"
        for field in ("trace", "policy", "profile", "fleet_scale", "slo_ms", "error_budget")
        if getattr(first, field) != getattr(second, field)
    ]
    basis = first.assumptions.watts_basis
    notes = [
        f"simulated; watts {basis}; fixed seeds: differences are exact, and say nothing of other traffic"
    ]
    if differ:
        notes.append("of different inputs: " + "; ".join(differ))
    return Comparison(f"Backtests: {a} (A) and {b} (B)", (str(a), str(b)), tuple(parts), tuple(notes))


def _changes(a: Row, b: Row) -> Sequence[Change]:
    changes = [
        Change(
            column.name,
            column.unit,
            getattr(a, field),
            getattr(b, field),
            less_is_better=column.less_is_better,
        )
        for field, column in _OF_ROWS.items()
    ]
    return [change for change in changes if (change.a, change.b) != (None, None)]


def _row(result: Backtest, name: str) -> Row:
    row = result.row(name)
    if row is None:
        raise ValueError(f"no contender {name}")
    return row


def _backtest(path: Path) -> Backtest:
    try:
        return Backtest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    except ValidationError as error:
        allowed = "what `minwatt backtest --json` prints, or the folder of a run of `minwatt replay`"
        raise UsageError(f"{path}: neither a load test nor a backtest; allowed: {allowed}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: can't be written ({error.strerror})") from error
