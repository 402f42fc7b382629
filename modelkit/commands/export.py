"""`minwatt model export`."""

from __future__ import annotations

import shlex
import sys
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
    train_extra,
)
from modelkit.data.examples import named_data
from modelkit.recipe import ExportOptions
from modelkit.release.source import read_source
from modelkit.scoring.evaluate import DEFAULT_SETS
from modelkit.staging import stale_line

CHECKPOINT_HELP = "A checkpoint that `finetune` wrote, or the model directory that holds one."
STANDARD_HELP = (
    "Standard ONNX operators instead of ONNX Runtime's fused ones: for TensorRT and other runtimes."
)
LICENCE_HELP = "SPDX identifier of the weights' licence."
FROM_HELP = "What the weights were fine-tuned from, for model.yaml. Default: what the directory around says."
TOLERANCE_HELP = "Largest difference of a logit from torch's."


def export_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help=CHECKPOINT_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    data: FolderOption = None,
    task: FilesOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: that of before, or --out.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the model. Default: that of before, or 1.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help=LICENCE_HELP)] = None,
    base: Annotated[str | None, typer.Option("--base", help=FROM_HELP)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Longer texts are cut when served.")] = None,
    standard: Annotated[bool, typer.Option("--standard", help=STANDARD_HELP)] = False,
    tolerance: Annotated[float, typer.Option(min=0, help=TOLERANCE_HELP)] = ExportOptions.tolerance,
    intent_set: IntentSetOption = DEFAULT_SETS["intent"],
    entity_set: EntitySetOption = DEFAULT_SETS["entities"],
    json: JsonOption = False,
) -> None:
    """Export a checkpoint as a model directory, and check the graph: parity with torch, operators, shapes.

    Exit code 1: the graph answers unlike torch; nothing is written.

    Example: minwatt model export models/mine --out models/again --licence Apache-2.0
    """
    options = ExportOptions(
        checkpoint=checkpoint,
        out_dir=out,
        data=None if data is None and not task else named_data(data, task),
        sets={"intent": intent_set, "entities": entity_set},
        name=name,
        version=version,
        licence=licence,
        base=base,
        max_tokens=max_tokens,
        standard=standard,
        tolerance=tolerance,
        command=shlex.join(["minwatt", *sys.argv[1:]]),
    )
    source = read_source(options)
    with train_extra():  # after the data: a mistake there is told without it
        from modelkit.release.run import export_model
    with Console(stderr=True).status("loading the checkpoint") as status:
        report = export_model(options, source, status.update)
    output = Console(soft_wrap=True)
    if json:
        output.print_json(report.model_dump_json())
    else:
        for line in report.lines():
            output.print(line, markup=False, highlight=False)
    if report.stale:
        line = stale_line(report.stale, out)
        Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    if not report.passed:
        Console(stderr=True, soft_wrap=True).print(f"{out}: not written", markup=False, highlight=False)
        raise typer.Exit(1)
