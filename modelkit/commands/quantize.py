"""`minwatt model quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import (
    EntitySetOption,
    FilesOption,
    FolderOption,
    IntentSetOption,
    JsonOption,
    print_result,
    train_extra,
)
from modelkit.compress.catalogue import CATALOGUE, DEFAULT, QDQ, schemes_named
from modelkit.data.examples import named_data
from modelkit.recipe import PackageOptions
from modelkit.scoring.evaluate import DEFAULT_SETS

SCHEME_HELP = f"Scheme to compare, of {', '.join(CATALOGUE)}; repeat for more. Default: {', '.join(DEFAULT)}."
KEEP_HELP = "Scheme that becomes a variant of its own name, beside int8; repeat for more."
FALL_BACK_HELP = "Leave the most sensitive parts in float32 where a scheme loses too much on dev."
QAT_HELP = "Train as many epochs with a scheme's rounding where it loses too much; needs DIR/checkpoint."


def quantize_model(
    model_dir: Annotated[Path, typer.Argument(help="Model directory with its fp32 graph.")],
    data: FolderOption = None,
    task: FilesOption = None,
    scheme: Annotated[list[str] | None, typer.Option(metavar="NAME", help=SCHEME_HELP)] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="NAME", help=KEEP_HELP)] = None,
    fall_back: Annotated[bool, typer.Option("--fall-back/--no-fall-back", help=FALL_BACK_HELP)] = True,
    qat_epochs: Annotated[int, typer.Option(min=0, help=QAT_HELP)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to train on.")] = 2,
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Quantize a built model anew: compare the schemes on dev, write the best, score it on test.

    Exit code 1: no scheme passes on dev, or one to be kept is unfit; the directory has nothing of it.

    Example: minwatt model quantize models/support-text --data data --keep fp16 --keep weight_int4
    """
    schemes_named(scheme or (), keep or ())  # before the libraries are loaded
    with train_extra():
        from modelkit.compress.tensorrt import try_tensorrt
        from modelkit.package import quantize, variant_path
    options = PackageOptions(
        data=named_data(data, task),
        sets={"intent": intent_set, "entities": entity_set},
        schemes=tuple(scheme or ()),
        keep=tuple(keep or ()),
        fall_back=fall_back,
        qat_epochs=qat_epochs,
        threads=threads,
    )
    console = Console(stderr=True)
    with console.status("opening the model") as status:
        result = quantize(model_dir, options, status.update)
        if result.shipped is not None and QDQ in result.shipped.kept:
            status.update("trying TensorRT")
            told = try_tensorrt(model_dir / variant_path(QDQ))
            console.print(told, markup=False, highlight=False)
    print_result(result, model_dir, json)
