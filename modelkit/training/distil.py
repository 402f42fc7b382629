"""Distils a smaller model from a trained one and writes a model directory of it.

Owns the order of the steps. Leaves what it learns from to `lesson`, the student's first weights to `student`,
the loss to `distil_loss`, and scores and files to what `finetune` uses. Called by `build` and the `minwatt`
command. Needs the `train` extra.

OUT is laid out as `finetune` lays it out, its checkpoint among it: a student can teach in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from minwatt.v1.model_dir import Task, sha256_of
from modelkit.data.dataset import TRAIN, Dataset, unserved
from modelkit.data.texts import LabelledText
from modelkit.inference import load_tokenizer
from modelkit.package import refuse_bad_name
from modelkit.recipe import DistilOptions
from modelkit.scoring.finetune_report import FinetuneReport
from modelkit.staging import staging
from modelkit.training.base import base_directory, write_tokenizer
from modelkit.training.batches import IGNORED, LearningTask
from modelkit.training.checkpoint import ResumeFile, load_checkpoint
from modelkit.training.distil_loss import DistilLoss
from modelkit.training.hearers import Hearers
from modelkit.training.learning import judge, learning, refuse_long_texts, told, told_digest
from modelkit.training.lesson import Lesson
from modelkit.training.objective import LabelLoss
from modelkit.training.processes import alone
from modelkit.training.publish import RESUME, Trained, publish
from modelkit.training.spent import Spent, open_training_meter
from modelkit.training.student import make_student
from modelkit.training.train import Hooks, TrainingData, train
from modelkit.training.training_energy import card_of, energy_of

UNLABELLED = "unlabelled"  # texts: the name of what is learnt from them


def distil(options: DistilOptions, lesson: Lesson, hearers: Hearers) -> FinetuneReport:
    """From a teacher to a scored student; after a kill, from the last whole epoch on.

    Raises UsageError on bad options, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    datasets, texts = lesson.datasets, lesson.texts
    tasks = [dataset.task for dataset in datasets]
    processes = alone(options.training.device)
    with staging(options.out_dir) as stage:
        base = base_directory(lesson.checkpoint, stage.cache)
        tokenizer_file = write_tokenizer(base, stage.new)
        tokenizer = load_tokenizer(tokenizer_file, options.training.max_tokens)
        teacher = load_checkpoint(base)
        refuse_long_texts(teacher, options)
        torch.manual_seed(options.training.seed)
        student = make_student(teacher, options.student, tasks, options.training.dropout)
        notes = (*(note for one in datasets for note in one.notes), *unserved(tasks), *student.notes)
        for note in notes:
            hearers.say(note)
        learnt = [learning(dataset, options) for dataset in datasets]
        if texts is not None:
            learnt.append(_unlabelled(texts, options.training.hide_text_probability))
        labels = LabelLoss(learnt, options.training.label_smoothing)
        teacher.to(processes.device)
        objective = DistilLoss(teacher, student.network, student.layers, options.weights, labels)
        resume = ResumeFile(stage.cache / RESUME, _told(options, base))
        meter = open_training_meter(options.meter, card_of(processes.device))
        with Spent(meter, stage.cache / "spent-0.json", told_digest(resume.told)) as spent:

            def step(done: int, total: int) -> None:
                spent.note()
                hearers.advance(done, total)

            hearers.say(_opening(datasets, texts, options.training.epochs))
            data, hooks = TrainingData(learnt, tokenizer), Hooks(judge(datasets, tokenizer, hearers), step)
            network = train(student.network, data, options.training, hooks, resume, processes, objective)
        energy = energy_of(spent, processes, options.gco2_per_kwh)
        return publish(Trained(network, tokenizer, energy, notes), datasets, options, stage, hearers)


def _unlabelled(texts: Sequence[str], hide_probability: float) -> LearningTask:
    """Texts of no head: they come after the tasks, and no label of theirs is learnt."""
    task = Task(name=UNLABELLED, kind="classification", output="", labels=("none", "other"))
    return LearningTask(task, [LabelledText(text, IGNORED) for text in texts], hide_probability)


def _told(options: DistilOptions, base: Path) -> dict[str, str]:
    """What a training must have in common with one that it goes on from."""
    texts = "none" if options.texts is None else sha256_of(options.texts)
    return told(options, base, student=options.student, weights=options.weights, texts=texts)


def _opening(datasets: Sequence[Dataset], texts: Sequence[str] | None, epochs: int) -> str:
    sizes = ", ".join(f"{one.task.name} {len(one.splits[TRAIN])}" for one in datasets)
    more = "" if texts is None else f" and {len(texts)} texts without labels"
    return f"distilling on {sizes} examples{more}, up to {epochs} epochs"
