"""`minwatt report compare A B`: two results beside one another, with what is noise called noise.

Parses, calls, prints. What a path holds is told by `compare_kinds`, the differences by a file a kind, words
and looks by `report.comparison`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from minwatt.commands import compare_backtests, compare_cards, compare_profiles, compare_runs
from minwatt.commands.backtest_result import Backtest
from minwatt.commands.compare_kinds import ALLOWED, kind, read
from minwatt.commands.output import in_terminal, print_whole
from minwatt.v1.errors import UsageError
from modelkit.card.measurements import Card
from report.comparison import HEADS, Comparison, document
from report.document import as_json
from report.files import HTML_HELP, MARKDOWN_HELP, Destinations
from report.provenance import provenance
from scaler.profile import Profile

_WORDS = frozenset({0, len(HEADS) - 1})  # columns

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
    a: Annotated[Path, typer.Argument(metavar="A", help=f"One of: {ALLOWED}.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help=HTML_HELP)] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help=MARKDOWN_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
) -> None:
    """By how much B differs from A, with 95% intervals, and which differences are within noise.

    Load tests are cut into blocks of time that are drawn anew 1,000 times; of the same load in pairs.
    Profiles are fitted anew to points that are drawn; energy cards have their own intervals and rounds.
    Backtests are simulated with fixed seeds: a difference is exact, and says nothing of other traffic.

    Example: minwatt report compare out/before/minwatt out/after/minwatt --html out/compare.html
    """
    comparison = _compared(a, b, seed)
    found = document(comparison, provenance(comparison.watts))
    Destinations(html, markdown).write(found)
    if json:
        print(as_json(found))  # noqa: T201 - the command's own output
        return
    console = Console()
    console.print(found.title, highlight=False, soft_wrap=True, markup=False)
    for table in found.tables:
        print_whole(in_terminal(table, _WORDS), console)
    for line in (found.about, *found.notes):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _compared(a: Path, b: Path, seed: int) -> Comparison:
    """Raises UsageError where a path can't be read, or the two are not of one kind."""
    names, results = (str(a), str(b)), (read(a), read(b))
    match results:
        case Backtest() as first, Backtest() as second:
            return compare_backtests.comparison(names, first, second)
        case Profile() as first, Profile() as second:
            return compare_profiles.comparison(names, first, second, seed)
        case Card() as first, Card() as second:
            return compare_cards.comparison(names, first, second)
        case compare_runs.RunData() as first, compare_runs.RunData() as second:
            return compare_runs.comparison(names, first, second, seed)
    kinds = [kind(result) for result in results]
    raise UsageError(f"{b}: {kinds[1]}, and {a} is {kinds[0]}; allowed: two of one kind")
