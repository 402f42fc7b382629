"""Fine-tunes one encoder on its owner's texts and writes a model directory of it.

Owns the order of the steps. Leaves data to `dataset`, optimisation to `train`, the directory to `publish`,
what was forgotten to `forgetting`, joules to `spent`. Called by `build` and the `minwatt` command. Needs the
`train` extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from minwatt.v1.errors import UsageError
from modelkit.data.checks import Check, trained_on
from modelkit.data.dataset import TRAIN, Dataset, unserved
from modelkit.inference import load_tokenizer
from modelkit.package import refuse_bad_name
from modelkit.recipe import FinetuneOptions
from modelkit.scoring.finetune_report import FinetuneReport
from modelkit.staging import Staging, staging
from modelkit.training.base import TOKENIZER, base_directory, known_tasks, write_tokenizer
from modelkit.training.checkpoint import ResumeFile, adopt_heads
from modelkit.training.forgetting import forgetting, scores_before
from modelkit.training.hearers import Hearers
from modelkit.training.learning import judge, learning, refuse_long_texts, told, told_digest
from modelkit.training.network import load_base
from modelkit.training.processes import Processes, launched
from modelkit.training.publish import RESUME, Trained, publish
from modelkit.training.spent import Spent, open_training_meter
from modelkit.training.train import Hooks, TrainingData, train
from modelkit.training.training_energy import card_of, energy_of


def finetune(
    options: FinetuneOptions, datasets: Sequence[Dataset], checks: Sequence[Check], hearers: Hearers
) -> FinetuneReport | None:
    """From data to a scored model directory (`publish`); after a kill, from the last whole epoch on.

    `datasets` are those of the options' tasks, then of the auxiliary ones; `checks` (`read_checks`) of its
    checks. Where more was forgotten than allowed, the report says so and the model directory stays as it was.
    Of several processes each calls this, and all but the main one say nothing, write nothing and get no
    report.

    Raises UsageError (DataError among them) on bad options, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    with launched(options.training.device) as processes:
        if not processes.is_main:
            hearers = Hearers(say=lambda _: None, advance=lambda *_: None)
        own = datasets[: len(options.tasks)]
        notes = (*_notes(options, datasets, own), *trained_on(checks, datasets))
        for note in notes:
            hearers.say(note)
        with staging(options.out_dir, writes=processes.is_main) as stage:
            processes.wait()  # until the main process has made room
            trained = _train(stage, datasets, options, hearers, processes, checks, notes)
            if not processes.is_main:
                return None
            return publish(trained, own, options, stage, hearers)


def _notes(options: FinetuneOptions, datasets: Sequence[Dataset], own: Sequence[Dataset]) -> tuple[str, ...]:
    """On the data, and on what becomes of an earlier checkpoint's tasks."""
    given = {dataset.task.name for dataset in datasets}
    known = known_tasks(options.base)
    left = [task.name for task in known if task.name not in given]
    checked = {file.name for file in options.checks}
    unchecked = [task.name for task in known if task.name in given.difference(checked)]
    return (
        *(note for dataset in datasets for note in dataset.notes),
        *(f"{name}: a task of the checkpoint that is not given: its head is left out" for name in left),
        *(f"{name}: without --check {name}:FILE nobody knows what it forgets" for name in unchecked),
        *unserved([dataset.task for dataset in own]),
    )


def _train(
    stage: Staging,
    datasets: Sequence[Dataset],
    options: FinetuneOptions,
    hearers: Hearers,
    processes: Processes,
    checks: Sequence[Check],
    notes: tuple[str, ...],
) -> Trained:
    training, own = options.training, datasets[: len(options.tasks)]
    base = processes.from_main(base_directory(options.base, stage.cache) if processes.is_main else Path())
    tokenizer_file = stage.new / TOKENIZER
    if processes.is_main:
        write_tokenizer(base, stage.new, options.cased)
    processes.wait()
    tokenizer = load_tokenizer(tokenizer_file, training.max_tokens)
    known = known_tasks(base)
    torch.manual_seed(training.seed)
    tasks = [dataset.task for dataset in datasets]
    untrained = load_base(base, tasks, training.dropout, tokenizer_file)
    refuse_long_texts(untrained, options)
    if adopted := adopt_heads(untrained, base):
        hearers.say(f"going on from the heads of {', '.join(adopted)}")
    place = {"processes": processes.count, "runs on": processes.device.type}
    resume = ResumeFile(stage.cache / RESUME, told(options, base, cased=options.cased, **place))
    told_here = told_digest(resume.told)
    if len(set(processes.of_all(told_here))) > 1:
        raise UsageError("task, from: not the same files to all processes; allowed: the same ones")
    checked = checks if processes.is_main else ()
    before = scores_before(checked, base, known, tokenizer_file, training.max_tokens)
    data = TrainingData([learning(dataset, options) for dataset in datasets], tokenizer)
    judged = judge(own, tokenizer, hearers)
    meter = open_training_meter(options.meter, card_of(processes.device))
    with Spent(meter, stage.cache / f"spent-{processes.rank}.json", told_here) as spent:

        def step(done: int, total: int) -> None:
            spent.note()
            hearers.advance(done, total)

        sizes = ", ".join(f"{one.task.name} {len(one.splits[TRAIN])}" for one in datasets)
        where = f" in {processes.count} processes" if processes.count > 1 else ""
        hearers.say(f"training on {sizes} examples{where}, up to {training.epochs} epochs")
        network = train(untrained, data, training, Hooks(judged, step), resume, processes).first(len(own))
    return Trained(
        network=network,
        tokenizer=tokenizer,
        energy=energy_of(spent, processes, options.gco2_per_kwh),
        notes=notes,
        forgetting=forgetting(checked, before, network, tokenizer),
        max_forgetting=options.max_forgetting,
    )
