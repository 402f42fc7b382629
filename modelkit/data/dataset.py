"""What a task learns from and is scored on: its files, and the labels they share.

Owns the relations between splits: labels are those of the training file, after those that an earlier
checkpoint knows. Leaves the formats to `formats`, what speaks against the data to `notes`. Called by
`finetune` and `commands`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Name, Task
from modelkit.data.formats import read_rows
from modelkit.data.lines import listed
from modelkit.data.notes import labels_of, notes_on
from modelkit.data.rows import CLASSIFICATION, EntityRow, Row, kind_of
from modelkit.data.texts import OUTSIDE, AnnotatedText, DataError, LabelledText

TASK_FORM, FILE_FORM = "NAME:TRAIN,DEV[,TEST]", "NAME:FILE"
TRAIN, DEV, TEST, REPLAY = "train", "dev", "test", "replay"

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


@dataclass(frozen=True)
class EarlierFile:
    """Texts that a checkpoint was trained or scored on, of the task of that name."""

    name: str
    path: Path

    @classmethod
    def parse(cls, option: str, text: str) -> EarlierFile:
        """Of `intent:test.jsonl`. Raises UsageError, which names the option, on another form."""
        name, _, file = text.partition(":")
        if not name or not file:
            raise UsageError(f"{option} = {text!r}; allowed: {FILE_FORM}")
        return cls(name, Path(file))


def digest_of(paths: Iterable[Path]) -> str:
    """Of the files' bytes, in order. Raises DataError where one can't be read."""
    sha256 = hashlib.sha256()
    for path in paths:
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


def read_datasets(
    tasks: Sequence[TaskFiles], known: Sequence[Task] = (), replay: Sequence[EarlierFile] = ()
) -> tuple[Dataset, ...]:
    """Read every task. One that is `known` by name and kind keeps those labels; `replay` is trained on too.

    Raises UsageError (DataError among them) on bad data, a name given twice, a replay of no task.
    """
    if not tasks:
        raise UsageError(f"task: none given; expected one or more {TASK_FORM}")
    names = [files.name for files in tasks]
    for option, given in (("task", names), ("replay", [file.name for file in replay])):
        for name, times in Counter(given).items():
            if times > 1:
                raise UsageError(f"{option} = {name!r}: given {times} times; each name once")
    replayed = {file.name: file.path for file in replay}
    for name in replayed:
        if name not in names:
            raise UsageError(f"replay = {name!r}: no task of that name is given; allowed: {listed(names)}")
    earlier = {task.name: task for task in known}
    return tuple(read_dataset(files, earlier.get(files.name), replayed.get(files.name)) for files in tasks)


def unserved(tasks: Sequence[Task]) -> Iterator[str]:
    """One line on each task that is not the first of its kind: a replica answers with that one."""
    first: dict[str, Task] = {}
    for task in tasks:
        if first.setdefault(task.kind, task) is not task:
            served = first[task.kind].name
            yield f"{task.name}: served answers are those of {served}, the first {task.kind} task"


def read_dataset(files: TaskFiles, known: Task | None = None, replay: Path | None = None) -> Dataset:
    """Read a task's files; labels are those of the training file, in alphabetical order.

    Where an earlier checkpoint has a task of this name and kind, its labels come first and stay, with or
    without examples in the new files. Texts of `replay` join the training ones.

    Raises DataError where a file is bad, holds examples of another kind, or a label that train has not.
    """
    trained = {TRAIN: files.splits[TRAIN]} if replay is None else {TRAIN: files.splits[TRAIN], REPLAY: replay}
    paths = trained | {**files.splits}  # what is trained on first: other splits are noted against it
    rows = {split: read_rows(path) for split, path in paths.items()}
    trained_on = paths[TRAIN]
    kind = kind_of(rows[TRAIN][0])
    for split, path in paths.items():
        if kind_of(rows[split][0]) != kind:
            line = rows[split][0].line
            raise DataError(f"{path}:{line}: another kind of example than in {trained_on}; expected {kind}")
    before = label_names(known) if known is not None and known.kind == kind else ()
    new = sorted({label for row in rows[TRAIN] for label in labels_of(row)}.difference(before))
    labels = (*before, *new)
    if len(labels) < (2 if kind == CLASSIFICATION else 1):
        needed = "two labels or more" if kind == CLASSIFICATION else "one entity or more"
        raise DataError(f"{trained_on}: {listed(labels) or 'no label'} in all; expected {needed}")
    for split, path in paths.items():
        _refuse_others(path, rows[split], labels, str(trained_on))
    task = Task(
        name=files.name,
        kind=kind,
        output=f"{files.name}_logits",
        labels=labels if kind == CLASSIFICATION else bio_tags(labels),
    )
    index = {label: i for i, label in enumerate(labels)}
    examples = {split: tuple(_example(row, index) for row in those) for split, those in rows.items()}
    examples[TRAIN] += examples.pop(REPLAY, ())
    notes = [*notes_on(rows, labels, besides=REPLAY)]
    if before and new:
        notes.append(f"{len(new)} labels are new to the checkpoint's {len(before)}: {listed(new)}")
    return Dataset(task=task, splits=examples, notes=tuple(f"{files.name}: {note}" for note in notes))


def label_names(task: Task) -> tuple[str, ...]:
    """A classification task's labels, or the entity types of a ner task's tags."""
    return task.labels if task.kind == CLASSIFICATION else tuple(tag[2:] for tag in task.labels[1::2])


def examples_of(path: Path, task: Task) -> tuple[Example, ...]:
    """A file's examples for a task that is there already.

    Raises DataError on a bad file, examples of another kind, and labels that are not the task's.
    """
    rows = read_rows(path)
    if kind_of(rows[0]) != task.kind:
        raise DataError(f"{path}:{rows[0].line}: another kind of example than task {task.name!r} has")
    _refuse_others(path, rows, label_names(task), f"task {task.name!r} of the model")
    index = {label: i for i, label in enumerate(task.labels)}
    return tuple(_example(row, index) for row in rows)


def _refuse_others(path: Path, rows: Sequence[Row], labels: Sequence[str], known_to: str) -> None:
    known = frozenset(labels)
    for row in rows:
        for label in labels_of(row):
            if label not in known:
                raise DataError(
                    f"{path}:{row.line}: label {label!r} is not in {known_to}; allowed: {listed(labels)}"
                )


def bio_tags(labels: Sequence[str]) -> tuple[str, ...]:
    """O, then B- and I- of each entity label."""
    return (OUTSIDE, *(prefix + label for label in labels for prefix in ("B-", "I-")))


def _example(row: Row, index: Mapping[str, int]) -> Example:
    if isinstance(row, EntityRow):
        return AnnotatedText(row.text, row.spans)
    return LabelledText(row.text, index[row.label])
