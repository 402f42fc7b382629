"""`minwatt model build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import (
    BASE_HELP,
    DEFAULTS,
    DataOption,
    EntitySetOption,
    IntentSetOption,
    JsonOption,
    print_result,
    train_extra,
    training_progress,
)
from modelkit.recipe import BuildOptions, TrainingOptions
from modelkit.scoring.evaluate import DEFAULT_SETS


def build_model(
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
    with train_extra():
        from modelkit.build import Hearers, build
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
    with training_progress(console) as (say, advance):
        result = build(options, Hearers(say=say, advance=advance))
    print_result(result, out, json)
