"""What a model is scored on: its tasks' examples of one split, encoded.

Leaves file formats to `formats` and scores to `evaluate`. Called by `evaluate`, `package` and `build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelSpec, Task
from modelkit.data.dataset import TaskFiles, examples_of
from modelkit.data.formats import read_labelled_texts, read_labels, read_tagged_sentences, read_tags
from modelkit.data.texts import OUTSIDE, AnnotatedText, DataError, LabelledText
from modelkit.inference import encode

Data = Path | tuple[TaskFiles, ...]  # a folder of sets, or the files of each task


@dataclass(frozen=True)
class Tasks:
    """The heads of a model that are scored: one of each kind, or one alone."""

    intent: Task | None
    entities: Task | None

    @classmethod
    def of(cls, spec: ModelSpec) -> Tasks:
        """Raises UsageError when the model has two tasks of a kind: one would go unscored."""
        tasks = cls(spec.task_of_kind("classification"), spec.task_of_kind("ner"))
        for other in spec.tasks:
            if other not in tasks.present:
                raise UsageError(
                    f"model {spec.name}: task {other.name!r} is not the first {other.kind} task; "
                    "evaluation and quantization take one of each kind"
                )
        return tasks

    @property
    def present(self) -> tuple[Task, ...]:
        """Those there are, intents first."""
        return tuple(task for task in (self.intent, self.entities) if task is not None)

    @property
    def outputs(self) -> tuple[str | None, str | None]:
        """The graph's outputs, intents first; None where there is no such task."""
        intent, entities = (None if task is None else task.output for task in (self.intent, self.entities))
        return intent, entities


class Source(Protocol):
    """Where the examples of one split come from; `sets` says it in words for each task."""

    @property
    def split(self) -> str: ...

    @property
    def sets(self) -> Mapping[str, str]: ...

    def path(self, task: Task) -> Path:
        """What feeds `task`. Raises UsageError when nothing does."""

    def texts(self, task: Task) -> Sequence[LabelledText]:
        """Of a classification task. Raises UsageError on bad data, and on labels that are not the task's."""

    def annotated(self, task: Task) -> Sequence[AnnotatedText]:
        """Of a ner task. Raises UsageError on bad data, and on labels that are not the task's."""


@dataclass(frozen=True)
class FolderSource:
    """Of folders with `labels.txt`: `sets` maps a task's name to a folder of `data_dir`."""

    data_dir: Path
    split: str
    sets: Mapping[str, str]

    def path(self, task: Task) -> Path:
        """The folder that feeds `task`. Raises UsageError when none does."""
        if task.name not in self.sets:
            raise _not_given(task, self.sets)
        return self.data_dir / self.sets[task.name]

    def texts(self, task: Task) -> Sequence[LabelledText]:
        folder = self.path(task)
        _same_labels(folder / "labels.txt", read_labels(folder / "labels.txt"), task)
        return read_labelled_texts(folder / f"{self.split}.jsonl", task.labels)

    def annotated(self, task: Task) -> Sequence[AnnotatedText]:
        folder = self.path(task)
        _same_labels(folder / "labels.txt", read_tags(folder / "labels.txt"), task)
        sentences = read_tagged_sentences(folder / f"{self.split}.conll", task.labels)
        return [sentence.annotated for sentence in sentences]


@dataclass(frozen=True)
class FileSource:
    """Of the files that a task was fine-tuned on."""

    files: Mapping[str, TaskFiles]
    split: str

    @property
    def sets(self) -> Mapping[str, str]:
        return {name: str(files.splits.get(self.split)) for name, files in self.files.items()}

    def path(self, task: Task) -> Path:
        """The file that feeds `task`. Raises UsageError when none does."""
        if task.name not in self.files:
            raise _not_given(task, self.files)
        splits = self.files[task.name].splits
        if self.split not in splits:
            raise UsageError(f"task = {task.name!r}: no {self.split} file; given: {', '.join(splits)}")
        return splits[self.split]

    def texts(self, task: Task) -> Sequence[LabelledText]:
        examples = examples_of(self.path(task), task)
        return [example for example in examples if isinstance(example, LabelledText)]

    def annotated(self, task: Task) -> Sequence[AnnotatedText]:
        examples = examples_of(self.path(task), task)
        return [example for example in examples if isinstance(example, AnnotatedText)]


def source_of(data: Data, split: str, sets: Mapping[str, str]) -> Source:
    """`sets` names the folders where `data` is one."""
    if isinstance(data, Path):
        return FolderSource(data, split, sets)
    return FileSource({files.name: files for files in data}, split)


def named_data(folder: Path | None, tasks: Sequence[str] | None) -> Data:
    """What a command's --data or --task names. Raises UsageError unless it is one of them."""
    if (folder is None) == (not tasks):
        given = "both are" if tasks else "neither is"
        raise UsageError(f"data: {given} given of --data and --task; expected one of them")
    return folder if folder is not None else tuple(TaskFiles.parse(text) for text in tasks or ())


@dataclass(frozen=True)
class EvaluationSet:
    """What to score on, already encoded; `tags` names the columns of the entity head.

    Without a task of a kind there are no examples of it.
    """

    texts: Sequence[LabelledText]
    sentences: Sequence[AnnotatedText]
    encoded_texts: Sequence[EncodedText]
    encoded_sentences: Sequence[EncodedText]
    tags: Sequence[str]


def load_evaluation_set(tasks: Tasks, tokenizer: Tokenizer, source: Source) -> EvaluationSet:
    """Read and encode the tasks' split; the sets' labels must be the model's."""
    for task in tasks.present:
        source.path(task)  # before the one's file is read, that there is one for the other
    texts = [] if tasks.intent is None else source.texts(tasks.intent)
    sentences = [] if tasks.entities is None else source.annotated(tasks.entities)
    return EvaluationSet(
        texts=texts,
        sentences=sentences,
        encoded_texts=encode(tokenizer, [example.text for example in texts]),
        encoded_sentences=encode(tokenizer, [sentence.text for sentence in sentences]),
        tags=(OUTSIDE,) if tasks.entities is None else tasks.entities.labels,
    )


def _not_given(task: Task, given: Mapping[str, object]) -> UsageError:
    return UsageError(f"sets: none for task {task.name!r}; given for {', '.join(given) or 'no task'}")


def _same_labels(path: Path, labels: Sequence[str], task: Task) -> None:
    if set(labels) != set(task.labels):
        odd = sorted(set(labels) ^ set(task.labels))[0]
        raise DataError(f"{path}: label {odd!r} is not in both the set and task {task.name!r} of the model")
