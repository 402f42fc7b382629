"""What a student is to learn from: its teacher's checkpoint, labelled texts, and texts without labels.

Reads and refuses; needs no torch, so that a mistake is told before torch is asked for. Called by `build` and
`commands.distil`, for `distil`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.data.dataset import Dataset, read_datasets
from modelkit.data.formats import read_texts
from modelkit.data.lines import listed
from modelkit.recipe import DistilOptions
from modelkit.training.base import CHECKPOINT, TASKS, known_tasks


@dataclass(frozen=True)
class Lesson:
    """`checkpoint` is the teacher's; `texts` have no labels, None where no file of them is given."""

    checkpoint: Path
    datasets: tuple[Dataset, ...]
    texts: tuple[str, ...] | None


def read_lesson(options: DistilOptions) -> Lesson:
    """Raises UsageError (DataError among them) on bad weights of the loss, no teacher, and bad data."""
    _refuse_bad_weights(options)
    checkpoint = _checkpoint_of(options.teacher)
    taught = known_tasks(checkpoint)
    datasets = read_datasets(options.tasks, taught)
    _refuse_other_tasks([dataset.task for dataset in datasets], taught, options.teacher)
    return Lesson(checkpoint, datasets, None if options.texts is None else read_texts(options.texts))


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
