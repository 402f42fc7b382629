"""Distils a smaller model from a trained one and writes a model directory of it.

Owns the order of the steps. Leaves the student's first weights to `student`, the loss to `distil_loss`, and
data, scores and files to what `finetune` uses. Called by `build` and the `minwatt` command. Needs the `train`
extra.

OUT is laid out as `finetune` lays it out, its checkpoint among it: a student can teach in turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task, sha256_of
from modelkit.data.dataset import TRAIN, Dataset
from modelkit.data.formats import listed, read_texts
from modelkit.data.texts import LabelledText
from modelkit.inference import load_tokenizer
from modelkit.package import refuse_bad_name
from modelkit.recipe import DistilOptions
from modelkit.scoring.task_scores import FinetuneReport
from modelkit.staging import staging
from modelkit.training.base import base_directory, write_tokenizer
from modelkit.training.batches import IGNORED, LearningTask
from modelkit.training.checkpoint import TASKS, ResumeFile, load_checkpoint
from modelkit.training.distil_loss import DistilLoss
from modelkit.training.finetune import (
    CHECKPOINT,
    RESUME,
    judge,
    learning,
    publish,
    read_tasks,
    refuse_long_texts,
    told,
)
from modelkit.training.hearers import Hearers
from modelkit.training.objective import LabelLoss
from modelkit.training.student import make_student
from modelkit.training.train import Hooks, TrainingData, train

UNLABELLED = "unlabelled"  # texts: the name of what is learnt from them


def distil(options: DistilOptions, hearers: Hearers) -> FinetuneReport:
    """From a teacher to a scored student; after a kill, from the last whole epoch on.

    Raises UsageError (DataError among them) on bad data or options, or a full disk.
    """
    refuse_bad_name(options.name, options.version)
    _refuse_bad_weights(options)
    checkpoint = _checkpoint_of(options.teacher)
    datasets, _, notes = read_tasks(options.tasks, (), hearers)
    texts = None if options.texts is None else read_texts(options.texts)
    with staging(options.out_dir) as stage:
        base = base_directory(checkpoint, stage.cache)
        tokenizer_file = write_tokenizer(base, stage.new)
        tokenizer = load_tokenizer(tokenizer_file, options.training.max_tokens)
        teacher = load_checkpoint(base)
        tasks = [dataset.task for dataset in datasets]
        _refuse_other_tasks(tasks, teacher.tasks, options.teacher)
        refuse_long_texts(teacher, options)
        torch.manual_seed(options.training.seed)
        student = make_student(teacher, options.student, tasks, options.training.dropout)
        for note in student.notes:
            hearers.say(note)
        learnt = [learning(dataset, options) for dataset in datasets]
        if texts is not None:
            learnt.append(_unlabelled(texts, options.training.hide_text_probability))
        labels = LabelLoss(learnt, options.training.label_smoothing)
        objective = DistilLoss(teacher, student.network, student.layers, options.weights, labels)
        resume = ResumeFile(stage.cache / RESUME, _told(options, base))
        hearers.say(_opening(datasets, texts, options.training.epochs))
        network = train(
            student.network,
            TrainingData(learnt, tokenizer),
            options.training,
            Hooks(judge(datasets, tokenizer, hearers), hearers.advance),
            resume,
            objective,
        )
        report = publish(network, datasets, tokenizer, options, (*notes, *student.notes), stage, hearers)
        resume.path.unlink(missing_ok=True)
    return report


def _checkpoint_of(teacher: Path) -> Path:
    checkpoint = teacher / CHECKPOINT
    if not (checkpoint / TASKS).is_file():
        raise UsageError(
            f"teacher = {str(teacher)!r}: no {CHECKPOINT}/{TASKS}; allowed: a model directory that "
            "`minwatt model finetune`, `distil` or `build` wrote"
        )
    return checkpoint


def _refuse_bad_weights(options: DistilOptions) -> None:
    weights = options.weights
    if not 0 < weights.temperature < math.inf:
        raise UsageError(f"temperature = {weights.temperature:g}: allowed: more than 0")
    if not weights.logits + weights.hidden + weights.labels > 0:
        raise UsageError(
            "logits-weight, hidden-weight and labels-weight are all 0; allowed: one or more above 0"
        )


def _refuse_other_tasks(tasks: Sequence[Task], taught: Sequence[Task], teacher: Path) -> None:
    """A student's task is one of its teacher's: same name, kind and labels."""
    for task in tasks:
        there = next((other for other in taught if other.name == task.name), None)
        if there is None:
            names = ", ".join(other.name for other in taught)
            raise UsageError(f"task = {task.name!r}: {teacher} has none of that name; allowed: {names}")
        if there != task:
            odd = listed(sorted(set(there.labels) ^ set(task.labels)) or [task.kind])
            raise UsageError(
                f"task = {task.name!r}: not as {teacher} has it: {odd}; allowed: the same labels"
            )


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
