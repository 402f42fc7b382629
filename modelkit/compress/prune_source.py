"""What is pruned and what it recovers on: a model directory with its checkpoint, and the files of its tasks.

Reads and refuses; needs no torch, so that a mistake is told before torch is asked for. Called by
`commands.prune`, for `prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from modelkit.compress.prune_options import PruneOptions
from modelkit.data.dataset import Dataset, read_datasets
from modelkit.training.base import CHECKPOINT, base_directory, known_tasks


@dataclass(frozen=True)
class PruneSource:
    """`base` is the checkpoint of the model that `spec` describes."""

    spec: ModelSpec
    base: Path
    datasets: tuple[Dataset, ...]


def read_source(options: PruneOptions) -> PruneSource:
    """Raises UsageError (DataError among them) on a bad model, bad options and bad data."""
    options.check()
    spec = ModelDirectory.open(options.model_dir).spec
    if not (options.model_dir / CHECKPOINT).is_dir():
        raise UsageError(f"{options.model_dir}: no {CHECKPOINT}/ in it; `minwatt model finetune` writes one")
    base = base_directory(options.model_dir / CHECKPOINT, options.model_dir)
    datasets = read_datasets(options.tasks, known_tasks(base))
    _refuse_other_tasks(datasets, spec)
    return PruneSource(spec, base, datasets)


def _refuse_other_tasks(datasets: Sequence[Dataset], spec: ModelSpec) -> None:
    """The data's tasks are the model's: the head of one that is not given would be lost."""
    given = {dataset.task.name: dataset.task for dataset in datasets}
    for task in spec.tasks:
        if task.name not in given:
            raise UsageError(f"task: no files for {task.name!r}; expected each of the model's, and no other")
        if given[task.name].labels != task.labels:
            odd = sorted(set(given[task.name].labels) ^ set(task.labels))
            which = f"label {odd[0]!r} is not in both" if odd else "other order"
            raise UsageError(f"task {task.name!r}: other labels than the model's ({which})")
    for name in given:
        if name not in {task.name for task in spec.tasks}:
            raise UsageError(
                f"task = {name!r}: not a task of the model; expected each of the model's, and no other"
            )
