"""`minwatt model finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.commands.options import (
    BASE_HELP,
    DEFAULTS,
    BatchSizeOption,
    EncoderRateOption,
    EpochsOption,
    HeadRateOption,
    JsonOption,
    LossWeightOption,
    MaxTokensOption,
    NameOption,
    OutOption,
    PatienceOption,
    SeedOption,
    TasksOption,
    ThreadsOption,
    VersionOption,
    finite,
    loss_weights,
    train_extra,
    training_progress,
)
from modelkit.data.checks import read_checks
from modelkit.data.dataset import FILE_FORM, TASK_FORM, EarlierFile, TaskFiles, read_datasets
from modelkit.recipe import DEVICES, PRECISIONS, FinetuneOptions, TrainingOptions
from modelkit.scoring.report import forgetting_table, task_table
from modelkit.training.base import known_tasks

FROZEN_HELP = "Encoder layers, from below and with the embeddings, that stay as they are."
ACCUMULATE_HELP = "Batches of each task that make one step."
AUXILIARY_HELP = "A task that the encoder learns from and the model has no head of. Repeat for more."
LOWERCASE_HELP = "Share of the texts that lose their capitals in training."
CASED_HELP = "Tell capitals from small letters, where the base knows small ones only."
WEIGHTS_HELP = "Let texts of rare labels count for more."
LORA_HELP = "Train adapters of that rank on the encoder's matrices, not the encoder; merged at the end."
REPLAY_HELP = "Earlier texts of a task to train on besides. Repeat for each task."
CHECK_HELP = "Earlier texts of a task, scored before and after. Repeat for more."
FORGETTING_HELP = "Where a check's score falls by more, nothing is replaced: exit code 1."
METER_HELP = "Of the training: auto, rapl, modelled[:idle_w=W,busy_w_per_core=W] or nvml."
DEVICE_HELP = f"One of {', '.join(DEVICES)}, or cuda:NUMBER."
PRECISION_HELP = f"Of the encoder while it trains: one of {', '.join(PRECISIONS)}."


def finetune_model(
    task: TasksOption,
    out: OutOption,
    auxiliary: Annotated[list[str] | None, typer.Option(metavar=TASK_FORM, help=AUXILIARY_HELP)] = None,
    cased: Annotated[bool, typer.Option("--cased", help=CASED_HELP)] = False,
    lowercase: Annotated[float, typer.Option(min=0, max=1, help=LOWERCASE_HELP)] = DEFAULTS.lower_probability,
    base: Annotated[Path | None, typer.Option("--from", help=BASE_HELP)] = None,
    name: NameOption = None,
    version: VersionOption = "1",
    epochs: EpochsOption = DEFAULTS.epochs,
    patience: PatienceOption = DEFAULTS.patience,
    batch_size: BatchSizeOption = DEFAULTS.batch_size,
    accumulate: Annotated[int, typer.Option(min=1, help=ACCUMULATE_HELP)] = DEFAULTS.accumulate,
    encoder_rate: EncoderRateOption = DEFAULTS.encoder_rate,
    head_rate: HeadRateOption = DEFAULTS.head_rate,
    warmup: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Share of the steps in which rates rise.")
    ] = DEFAULTS.warmup,
    frozen_layers: Annotated[int, typer.Option(min=0, help=FROZEN_HELP)] = DEFAULTS.frozen_layers,
    class_weights: Annotated[bool, typer.Option("--class-weights", help=WEIGHTS_HELP)] = False,
    loss_weight: LossWeightOption = None,
    max_tokens: MaxTokensOption = DEFAULTS.max_tokens,
    lora_rank: Annotated[int | None, typer.Option(min=1, help=LORA_HELP)] = DEFAULTS.lora_rank,
    replay: Annotated[list[str] | None, typer.Option(metavar=FILE_FORM, help=REPLAY_HELP)] = None,
    check: Annotated[list[str] | None, typer.Option(metavar=FILE_FORM, help=CHECK_HELP)] = None,
    max_forgetting: Annotated[float, typer.Option(min=0, max=1, help=FORGETTING_HELP)] = 0.01,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = DEFAULTS.device,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = DEFAULTS.precision,
    meter: Annotated[str, typer.Option(help=METER_HELP)] = "auto",
    grid_intensity: Annotated[float | None, typer.Option(min=0, help="gCO2 a kWh, stated by you.")] = None,
    seed: SeedOption = DEFAULTS.seed,
    threads: ThreadsOption = DEFAULTS.threads,
    json: JsonOption = False,
) -> None:
    """Fine-tune an encoder on your texts: a model directory, with scores by label.

    The same command, after a kill, goes on after the last whole epoch. Several processes share the work where
    torchrun or `accelerate launch` starts them.

    Exit code 1: more was forgotten than --max-forgetting; what is in --out stays as it is.

    Example: minwatt model finetune --task intent:train.jsonl,dev.jsonl,test.jsonl --out models/mine
    """
    tasks = tuple(TaskFiles.parse(text) for text in task)
    besides = tuple(TaskFiles.parse(text) for text in auxiliary or ())
    replayed = tuple(EarlierFile.parse("replay", text) for text in replay or ())
    checked = tuple(EarlierFile.parse("check", text) for text in check or ())
    known = known_tasks(base)
    datasets = read_datasets((*tasks, *besides), known, replayed)
    checks = read_checks(checked, known, datasets)
    with train_extra():  # after the data: a mistake there is told without it
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
        loss_weights=loss_weights(loss_weight, (*tasks, *besides)),
        lower_probability=lowercase,
        lora_rank=lora_rank,
        device=device,
        precision=precision,
    )
    options = FinetuneOptions(
        tasks=tasks,
        out_dir=out,
        name=name or out.resolve().name,
        base=base,
        version=version,
        class_weights=class_weights,
        auxiliary=besides,
        cased=cased,
        training=training,
        replay=replayed,
        checks=checked,
        max_forgetting=max_forgetting,
        meter=meter,
        gco2_per_kwh=grid_intensity,
    )
    with training_progress(Console(stderr=True)) as (say, advance):
        report = finetune(options, datasets, checks, Hearers(say=say, advance=advance))
    if report is None:  # another process prints it
        return
    output = Console()
    if json:
        output.print_json(report.model_dump_json())
    else:
        for score in report.tasks:
            output.print(task_table(score))
        if report.forgetting:
            output.print(forgetting_table(report))
        output.print(f"training: {report.energy.in_words()}", soft_wrap=True, highlight=False)
    if not report.published:
        line = (
            f"a check lost more than max-forgetting = {max_forgetting:g}: {out} is as it was, the rest is in "
            f"{out / '.cache' / 'new'}"
        )
        Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
        raise typer.Exit(1)
