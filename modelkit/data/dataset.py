"""What a task learns from and is scored on: its files, the labels they share, and what speaks against them.

Owns the relations between splits: labels are those of the training file; texts that stand twice, with two
labels or in two splits are reported. Leaves the formats to `formats`. Called by `finetune` and `commands`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Name, Task
from modelkit.data.formats import CLASSIFICATION, NER, EntityRow, LabelRow, Row, listed, read_rows
from modelkit.data.texts import OUTSIDE, AnnotatedText, DataError, LabelledText

TASK_FORM = "NAME:TRAIN,DEV[,TEST]"
TRAIN, DEV, TEST = "train", "dev", "test"

Example = LabelledText | AnnotatedText


@dataclass(frozen=True)
class TaskFiles:
    """A task's name and its file of each split: train, dev and, it may be, test."""

    name: str
    splits: Mapping[str, Path]

    @classmethod
    def parse(cls, text: str) -> TaskFiles:
        """Of `intent:train.jsonl,dev.jsonl,test.jsonl`. Raises UsageError on another form."""
        name, _, files = text.partition(":")
        paths = files.split(",")
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError as error:
            raise UsageError(
                f"task = {text!r}: name {name!r}; allowed: a-z and 0-9, with . _ - between them"
            ) from error
        if not 2 <= len(paths) <= 3 or not all(paths):
            raise UsageError(f"task = {text!r}; allowed: {TASK_FORM}")
        return cls(name, {split: Path(path) for split, path in zip((TRAIN, DEV, TEST), paths, strict=False)})

    def digest(self) -> str:
        """Of the files' bytes, in order. Raises DataError where one can't be read."""
        sha256 = hashlib.sha256()
        for path in self.splits.values():
            try:
                sha256.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise DataError(f"{path}: {error.strerror or error}") from error
        return sha256.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A task with its examples of each split; `notes` are what its owner should know before training."""

    task: Task
    splits: Mapping[str, Sequence[Example]]
    notes: tuple[str, ...]

    @property
    def scored_split(self) -> str:
        """The split of the final report: test where there is one."""
        return TEST if TEST in self.splits else DEV


def read_datasets(tasks: Sequence[TaskFiles]) -> tuple[Dataset, ...]:
    """Read every task. Raises UsageError (DataError among them) on bad data and on a name given twice."""
    if not tasks:
        raise UsageError(f"task: none given; expected one or more {TASK_FORM}")
    for name, times in Counter(files.name for files in tasks).items():
        if times > 1:
            raise UsageError(f"task = {name!r}: given {times} times; each name once")
    return tuple(read_dataset(files) for files in tasks)


def unserved(tasks: Sequence[Task]) -> Iterator[str]:
    """One line on each task that is not the first of its kind: a replica answers with that one."""
    first: dict[str, Task] = {}
    for task in tasks:
        if first.setdefault(task.kind, task) is not task:
            served = first[task.kind].name
            yield f"{task.name}: served answers are those of {served}, the first {task.kind} task"


def read_dataset(files: TaskFiles) -> Dataset:
    """Read a task's files; labels are those of the training file, in alphabetical order.

    Raises DataError where a file is bad, holds examples of another kind, or a label that train has not.
    """
    rows = {split: read_rows(path) for split, path in files.splits.items()}
    is_classification = isinstance(rows[TRAIN][0], LabelRow)
    for split, path in files.splits.items():
        if isinstance(rows[split][0], LabelRow) != is_classification:
            kind = CLASSIFICATION if is_classification else NER
            raise DataError(
                f"{path}:{rows[split][0].line}: another kind of example than in {files.splits[TRAIN]}; "
                f"expected {kind}"
            )
    labels = tuple(sorted({label for row in rows[TRAIN] for label in _labels_of(row)}))
    if len(labels) < (2 if is_classification else 1):
        needed = "two labels or more" if is_classification else "one entity or more"
        raise DataError(f"{files.splits[TRAIN]}: {listed(labels) or 'no label'} in all; expected {needed}")
    for split, path in files.splits.items():
        _refuse_others(path, rows[split], labels, str(files.splits[TRAIN]))
    columns = labels if is_classification else bio_tags(labels)
    task = Task(
        name=files.name,
        kind="classification" if is_classification else "ner",
        output=f"{files.name}_logits",
        labels=columns,
    )
    index = {label: i for i, label in enumerate(labels)}
    return Dataset(
        task=task,
        splits={split: tuple(_example(row, index) for row in those) for split, those in rows.items()},
        notes=tuple(f"{files.name}: {note}" for note in notes_on(rows, labels)),
    )


def examples_of(path: Path, task: Task) -> tuple[Example, ...]:
    """A file's examples for a task that is there already.

    Raises DataError on a bad file, examples of another kind, and labels that are not the task's.
    """
    rows = read_rows(path)
    if isinstance(rows[0], LabelRow) != (task.kind == CLASSIFICATION):
        raise DataError(f"{path}:{rows[0].line}: another kind of example than task {task.name!r} has")
    labels = task.labels if task.kind == CLASSIFICATION else tuple(tag[2:] for tag in task.labels[1::2])
    _refuse_others(path, rows, labels, f"task {task.name!r} of the model")
    index = {label: i for i, label in enumerate(task.labels)}
    return tuple(_example(row, index) for row in rows)


def _refuse_others(path: Path, rows: Sequence[Row], labels: Sequence[str], known_to: str) -> None:
    known = frozenset(labels)
    for row in rows:
        for label in _labels_of(row):
            if label not in known:
                raise DataError(
                    f"{path}:{row.line}: label {label!r} is not in {known_to}; allowed: {listed(labels)}"
                )


def bio_tags(labels: Sequence[str]) -> tuple[str, ...]:
    """O, then B- and I- of each entity label."""
    return (OUTSIDE, *(prefix + label for label in labels for prefix in ("B-", "I-")))


def notes_on(rows: Mapping[str, Sequence[Row]], labels: Sequence[str]) -> Iterator[str]:
    """One line on each thing that makes scores better than they are, or training worse, than it seems."""
    first: dict[str, tuple[str, Row]] = {}
    for split, those in rows.items():
        repeated: list[Row] = []
        conflicting: list[tuple[Row, Row]] = []
        leaked: list[tuple[Row, str, Row]] = []
        for row in those:
            there, earlier = first.setdefault(row.text, (split, row))
            if earlier is row:
                continue
            if there != split:
                leaked.append((row, there, earlier))
            elif _answer(row) == _answer(earlier):
                repeated.append(row)
            else:
                conflicting.append((row, earlier))
        if repeated:
            yield f"{split}: {len(repeated)} examples are repeated, the first in line {repeated[0].line}"
        if conflicting:
            one, other = conflicting[0]
            yield (
                f"{split}: {len(conflicting)} texts have another answer than above, the first in lines "
                f"{other.line} and {one.line}"
            )
        if leaked:
            one, there, other = leaked[0]
            yield (
                f"{split}: {len(leaked)} texts are in an earlier split too, the first in line {one.line} "
                f"and in line {other.line} of {there}: scores on {split} flatter"
            )
        missing = sorted(set(labels).difference(label for row in those for label in _labels_of(row)))
        if missing:
            yield f"{split}: no example of {len(missing)} of {len(labels)} labels: {listed(missing)}"


def _labels_of(row: Row) -> Sequence[str]:
    return (row.label,) if isinstance(row, LabelRow) else [span.label for span in row.spans]


def _answer(row: Row) -> object:
    return row.label if isinstance(row, LabelRow) else row.spans


def _example(row: Row, index: Mapping[str, int]) -> Example:
    if isinstance(row, EntityRow):
        return AnnotatedText(row.text, row.spans)
    return LabelledText(row.text, index[row.label])
