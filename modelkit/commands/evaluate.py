"""`minwatt model evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import EntitySetOption, FilesOption, FolderOption, IntentSetOption, JsonOption
from modelkit.data.examples import named_data
from modelkit.scoring.evaluate import DEFAULT_SETS, SPLITS, evaluate
from modelkit.scoring.report import report_table

VARIANT_HELP = "Variant to score; repeat for more. Default: all on disk."


def evaluate_variants(
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
