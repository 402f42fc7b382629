"""The `minwatt model` commands together."""

from __future__ import annotations

import typer

from modelkit.commands.distil import distil_model
from modelkit.commands.evaluate import evaluate_variants
from modelkit.commands.finetune import finetune_model
from modelkit.commands.prune import prune_model
from modelkit.commands.quantize import quantize_model

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune, distil, prune, quantize, evaluate: minwatt model build --data data --out models/mine",
)
app.command("evaluate")(evaluate_variants)
app.command("finetune")(finetune_model)
app.command("distil")(distil_model)
app.command("prune")(prune_model)
app.command("quantize")(quantize_model)
