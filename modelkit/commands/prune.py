"""`minwatt model prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import (
    BatchSizeOption,
    EncoderRateOption,
    HeadRateOption,
    JsonOption,
    NameOption,
    OutOption,
    SeedOption,
    TasksOption,
    ThreadsOption,
    VersionOption,
    train_extra,
    training_progress,
)
from modelkit.compress.prune_options import MOST, RECOVERY_EPOCHS, ImportanceKind, PruneOptions
from modelkit.compress.prune_report import prune_table, sensitivity_table
from modelkit.compress.prune_source import read_source
from modelkit.data.dataset import TaskFiles
from modelkit.recipe import TrainingOptions

DEFAULTS = TrainingOptions(epochs=RECOVERY_EPOCHS)
RANK_HELP = "Rank of the factors in a feed-forward matrix' place."
ENERGY_HELP = "In place of --rank: the least that keeps that share of the squared singular values."
ZEROS_HELP = "Share of the encoder's weights set to zero: no speed-up on dense kernels."
TEACHER_HELP = "Recover by the unpruned model's answers and hidden states too, not by labels alone."
IMPORTANCE_HELP = "How heads and units of a layer are ranked: fisher or l1."


def prune_model(
    model_dir: Annotated[Path, typer.Argument(help="Model directory with its checkpoint.")],
    task: TasksOption,
    out: OutOption,
    heads: Annotated[
        float, typer.Option(min=0, max=MOST, help="Share of attention heads to take out.")
    ] = 0.0,
    width: Annotated[float, typer.Option(min=0, max=MOST, help="Share of feed-forward units, too.")] = 0.0,
    rank: Annotated[int | None, typer.Option(min=1, help=RANK_HELP)] = None,
    energy: Annotated[float | None, typer.Option(min=0, max=1, help=ENERGY_HELP)] = None,
    zeros: Annotated[float, typer.Option(min=0, max=0.99, help=ZEROS_HELP)] = 0.0,
    importance: Annotated[ImportanceKind, typer.Option(help=IMPORTANCE_HELP)] = "fisher",
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of recovery; 0: none.")] = DEFAULTS.epochs,
    teacher: Annotated[bool, typer.Option("--teacher", help=TEACHER_HELP)] = False,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    encoder_rate: EncoderRateOption = DEFAULTS.encoder_rate,
    head_rate: HeadRateOption = DEFAULTS.head_rate,
    name: NameOption = None,
    version: VersionOption = "1",
    seed: SeedOption = DEFAULTS.seed,
    threads: ThreadsOption = DEFAULTS.threads,
    json: JsonOption = False,
) -> None:
    """Take heads, feed-forward units, ranks or weights out of a model and let it recover.

    First it is measured what each layer loses alone; the shares are then parted between layers so that least
    is lost. The same command, after a kill, goes on after the last whole epoch.

    Example: minwatt model prune models/mine --task intent:train.jsonl,dev.jsonl --heads 0.25 --width 0.5
    --out models/lean
    """
    tasks = tuple(TaskFiles.parse(text) for text in task)
    options = PruneOptions(
        model_dir=model_dir,
        tasks=tasks,
        out_dir=out,
        name=name or out.resolve().name,
        version=version,
        heads=heads,
        width=width,
        rank=rank,
        energy=energy,
        zeros=zeros,
        importance=importance,
        teacher=teacher,
        training=TrainingOptions(
            epochs=epochs,
            batch_size=batch_size,
            encoder_rate=encoder_rate,
            head_rate=head_rate,
            seed=seed,
            threads=threads,
        ),
    )
    source = read_source(options)
    with train_extra():  # after the data: a mistake there is told without it
        from modelkit.compress.prune import prune
        from modelkit.training.hearers import Hearers
    with training_progress(Console(stderr=True)) as (say, advance):
        report = prune(options, source, Hearers(say=say, advance=advance))
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
        return
    output.print(sensitivity_table(report.sensitivity))
    output.print(prune_table(report))
