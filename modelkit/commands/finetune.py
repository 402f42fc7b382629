"""`minwatt model finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import BASE_HELP, DEFAULTS, JsonOption, train_extra, training_progress
from modelkit.data.dataset import TASK_FORM, TaskFiles
from modelkit.recipe import FinetuneOptions, TrainingOptions
from modelkit.scoring.report import task_table

TASK_HELP = "A task's name and files: .jsonl, .csv or .conll. Repeat for more tasks on one encoder."
PATIENCE_HELP = "Stop after as many epochs without a better score on dev. Default: never."
FROZEN_HELP = "Encoder layers, from below and with the embeddings, that stay as they are."
ACCUMULATE_HELP = "Batches of each task that make one step."
AUXILIARY_HELP = "A task that the encoder learns from and the model has no head of. Repeat for more."
LOWERCASE_HELP = "Share of the texts that lose their capitals in training."
CASED_HELP = "Tell capitals from small letters, where the base knows small ones only."
WEIGHTS_HELP = "Let texts of rare labels count for more."


def finetune_model(
    task: Annotated[list[str], typer.Option(metavar=TASK_FORM, help=TASK_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Model directory to write.")],
    auxiliary: Annotated[list[str] | None, typer.Option(metavar=TASK_FORM, help=AUXILIARY_HELP)] = None,
    cased: Annotated[bool, typer.Option("--cased", help=CASED_HELP)] = False,
    lowercase: Annotated[float, typer.Option(min=0, max=1, help=LOWERCASE_HELP)] = DEFAULTS.lower_probability,
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
    with train_extra():
        from modelkit.training.finetune import finetune
        from modelkit.training.hearers import Hearers
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
        lower_probability=lowercase,
    )
    options = FinetuneOptions(
        tasks=tasks,
        out_dir=out,
        name=name or out.resolve().name,
        base=base,
        version=version,
        class_weights=class_weights,
        auxiliary=tuple(TaskFiles.parse(text) for text in auxiliary or ()),
        cased=cased,
        training=training,
    )
    with training_progress(Console(stderr=True)) as (say, advance):
        report = finetune(options, Hearers(say=say, advance=advance))
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
        return
    for score in report.tasks:
        output.print(task_table(score))
