"""`minwatt model distil`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import (
    DEFAULTS,
    BatchSizeOption,
    EncoderRateOption,
    EpochsOption,
    JsonOption,
    LossWeightOption,
    MaxTokensOption,
    NameOption,
    OutOption,
    PatienceOption,
    SeedOption,
    ThreadsOption,
    VersionOption,
    finite,
    loss_weights,
    train_extra,
    training_progress,
)
from modelkit.data.dataset import TASK_FORM, TaskFiles
from modelkit.recipe import DistilOptions, DistilWeights, StudentShape, TrainingOptions
from modelkit.scoring.report import task_table
from modelkit.training.lesson import read_lesson

WEIGHTS = DistilWeights()
TEACHER_HELP = "Model directory with its checkpoint/, as finetune, distil and build write it."
TASK_HELP = "A task of the teacher and its files: .jsonl, .csv or .conll. Repeat for more."
TEXTS_HELP = "Texts without labels to learn from besides: .jsonl with a text each, or a text a line."


def distil_model(
    teacher: Annotated[Path, typer.Argument(help=TEACHER_HELP)],
    task: Annotated[list[str], typer.Option(metavar=TASK_FORM, help=TASK_HELP)],
    out: OutOption,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the student.")],
    hidden_size: Annotated[int | None, typer.Option(min=1, help="Default: the teacher's.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads. Default: the teacher's.")] = None,
    feed_forward: Annotated[
        int | None, typer.Option(min=1, help="Units of a feed-forward part. Default: the teacher's.")
    ] = None,
    texts: Annotated[Path | None, typer.Option(help=TEXTS_HELP)] = None,
    temperature: Annotated[
        float, typer.Option(callback=finite, help="Softens both models' answers.")
    ] = WEIGHTS.temperature,
    logits_weight: Annotated[
        float, typer.Option(min=0, callback=finite, help="Of the teacher's answers.")
    ] = WEIGHTS.logits,
    hidden_weight: Annotated[
        float, typer.Option(min=0, callback=finite, help="Of its hidden states.")
    ] = WEIGHTS.hidden,
    labels_weight: Annotated[
        float, typer.Option(min=0, callback=finite, help="Of the labels.")
    ] = WEIGHTS.labels,
    name: NameOption = None,
    version: VersionOption = "1",
    epochs: EpochsOption = DEFAULTS.epochs,
    patience: PatienceOption = DEFAULTS.patience,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    encoder_rate: EncoderRateOption = DEFAULTS.encoder_rate,
    loss_weight: LossWeightOption = None,
    max_tokens: MaxTokensOption = DEFAULTS.max_tokens,
    seed: SeedOption = DEFAULTS.seed,
    threads: ThreadsOption = DEFAULTS.threads,
    json: JsonOption = False,
) -> None:
    """Distil a trained model to a smaller one: a model directory, with scores by label.

    The same command, after a kill, goes on after the last whole epoch.

    Example: minwatt model distil models/mine --layers 3 --feed-forward 768
    --task intent:train.jsonl,dev.jsonl,test.jsonl --out models/mine-small
    """
    tasks = tuple(TaskFiles.parse(text) for text in task)
    training = TrainingOptions(
        epochs=epochs,
        batch_size=batch_size,
        encoder_rate=encoder_rate,
        max_tokens=max_tokens,
        threads=threads,
        seed=seed,
        patience=patience,
        loss_weights=loss_weights(loss_weight, tasks),
    )
    options = DistilOptions(
        teacher=teacher,
        student=StudentShape(layers, hidden_size, heads, feed_forward),
        tasks=tasks,
        out_dir=out,
        name=name or out.resolve().name,
        texts=texts,
        version=version,
        weights=DistilWeights(temperature, logits_weight, hidden_weight, labels_weight),
        training=training,
    )
    lesson = read_lesson(options)
    with train_extra():  # after the data: a mistake there is told without it
        from modelkit.training.distil import distil
        from modelkit.training.hearers import Hearers
    with training_progress(Console(stderr=True)) as (say, advance):
        report = distil(options, lesson, Hearers(say=say, advance=advance))
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
        return
    for score in report.tasks:
        output.print(task_table(score))
