"""Earlier texts on which it is checked what new data made a model forget. Called by `finetune` and its
command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.data.dataset import TRAIN, Dataset, EarlierFile, Example, examples_of
from modelkit.data.lines import listed
from modelkit.data.notes import folded


@dataclass(frozen=True)
class Check:
    """A file's examples, read for the task that the checkpoint has."""

    file: EarlierFile
    task: Task
    examples: Sequence[Example]


def trained_on(checks: Sequence[Check], datasets: Sequence[Dataset]) -> Iterator[str]:
    """One line on each check that holds texts which are trained on: it sees less than is forgotten."""
    learnt = {one.task.name: {folded(example.text) for example in one.splits[TRAIN]} for one in datasets}
    for check in checks:
        again = sum(folded(example.text) in learnt[check.task.name] for example in check.examples)
        if again:
            texts = f"{again} of {len(check.examples)} texts of {check.file.path}"
            yield f"{check.task.name}: {texts} are trained on: the check flatters"


def read_checks(
    files: Sequence[EarlierFile], known: Sequence[Task], datasets: Sequence[Dataset]
) -> tuple[Check, ...]:
    """Of tasks that the checkpoint knows and that are trained on. Raises UsageError on others and bad
    files.
    """
    trained = {(dataset.task.name, dataset.task.kind) for dataset in datasets}
    tasks = {task.name: task for task in known if (task.name, task.kind) in trained}
    checks = []
    for file in files:
        if file.name not in tasks:
            allowed = listed([*tasks]) or "none, as --from is no checkpoint of a task that is given"
            raise UsageError(f"check = {file.name!r}: not a task to check; allowed: {allowed}")
        task = tasks[file.name]
        checks.append(Check(file, task, examples_of(file.path, task)))
    return tuple(checks)
