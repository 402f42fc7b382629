"""`minwatt model build`: the default model and a student of it, from data to energy card.

Owns the options. Leaves the steps to `modelkit.build`, the card to `model_card`, which is why the command is
not among modelkit's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from minwatt.commands.model_card import card
from modelkit.commands.options import (
    BASE_HELP,
    DEFAULTS,
    DataOption,
    EntitySetOption,
    IntentSetOption,
    print_result,
    train_extra,
    training_progress,
)
from modelkit.recipe import DISTILLATION, BuildOptions
from modelkit.scoring.evaluate import DEFAULT_SETS

CARD = "card"
STUDENT_HELP = "Model directory of the student. Default: --out with -small."


def build_model(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    student_out: Annotated[Path | None, typer.Option(help=STUDENT_HELP)] = None,
    base: Annotated[Path | None, typer.Option(help=BASE_HELP)] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the tagged sentences.")] = DEFAULTS.epochs,
    student_epochs: Annotated[int, typer.Option(min=1, help="Of the distillation.")] = (DISTILLATION.epochs),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and augmentation.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train on.")] = DEFAULTS.threads,
    name: Annotated[
        str, typer.Option(help="Name of the model; the student's: with -small.")
    ] = "support-text",
    version: Annotated[str, typer.Option(help="Version of both.")] = "1",
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
) -> None:
    """Fine-tune, distil a student, quantize both and measure their energy cards.

    The same command, after a kill, goes on with the step, and in training with the epoch, that was cut off.

    Exit code 1: no quantization scheme passes on dev; what was built stays in fp32.

    Example: minwatt model build --data data --out models/support-text
    """
    with train_extra():
        from modelkit.build import SchemeRefusedError, build
        from modelkit.training.hearers import Hearers
    sets = {"intent": intent_set, "entities": entity_set}
    options = BuildOptions(
        data_dir=data,
        out_dir=out,
        student_dir=student_out or out.with_name(f"{out.name}-small"),
        base=base,
        sets=sets,
        name=name,
        student_name=f"{name}-small",
        version=version,
        training=replace(DEFAULTS, epochs=epochs, seed=seed, threads=threads),
        student_training=replace(DISTILLATION, epochs=student_epochs, seed=seed, threads=threads),
    )

    def make_card(model_dir: Path) -> None:
        card(model_dir, model_dir / CARD, data=data, intent_set=intent_set, entity_set=entity_set)

    try:
        with training_progress(Console(stderr=True)) as (say, advance):
            models = build(options, Hearers(say=say, advance=advance), make_card)
    except SchemeRefusedError as refused:
        print_result(refused.result, refused.model_dir, json=False)
        raise typer.Exit(1) from refused
    for model in models:
        if model.result is not None:
            print_result(model.result, model.model_dir, json=False)
