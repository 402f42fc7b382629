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
from modelkit.data.examples import named_data
from modelkit.recipe import PackageOptions
from modelkit.scoring.evaluate import DEFAULT_SETS


def quantize_model(
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
    with train_extra():
        from modelkit.package import quantize
    options = PackageOptions(data=named_data(data, task), sets={"intent": intent_set, "entities": entity_set})
    console = Console(stderr=True)
    with console.status("opening the model") as status:
        result = quantize(model_dir, options, status.update)
    print_result(result, model_dir, json)
