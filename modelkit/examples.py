"""What a model is scored on: both tasks' examples of one split, encoded.

Leaves file formats to `data` and scores to `evaluate`. Called by `evaluate`, `package` and `build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelSpec, Task
from modelkit.data import (
    DataError,
    LabelledText,
    TaggedSentence,
    read_labelled_texts,
    read_labels,
    read_tagged_sentences,
    read_tags,
)
from modelkit.inference import encode


@dataclass(frozen=True)
class Tasks:
    """The two heads of a model that are scored."""

    intent: Task
    entities: Task

    @classmethod
    def of(cls, spec: ModelSpec) -> Tasks:
        """Raises UsageError when the model lacks a classification or a ner task."""
        return cls(_task(spec, "classification"), _task(spec, "ner"))

    @property
    def outputs(self) -> tuple[str, str]:
        """The graph's outputs, intents first."""
        return self.intent.output, self.entities.output


@dataclass(frozen=True)
class Source:
    """Where examples come from: `sets` maps a task's name to a folder of `data_dir`."""

    data_dir: Path
    split: str
    sets: Mapping[str, str]

    def folder(self, task: Task) -> Path:
        """The folder that feeds `task`. Raises UsageError when none does."""
        if task.name not in self.sets:
            given = ", ".join(self.sets) or "no task"
            raise UsageError(f"sets: none for task {task.name!r}; given for {given}")
        return self.data_dir / self.sets[task.name]


@dataclass(frozen=True)
class EvaluationSet:
    """What to score on, already encoded; `tags` names the columns of the entity head."""

    texts: Sequence[LabelledText]
    sentences: Sequence[TaggedSentence]
    encoded_texts: Sequence[EncodedText]
    encoded_sentences: Sequence[EncodedText]
    tags: Sequence[str]


def load_evaluation_set(tasks: Tasks, tokenizer: Tokenizer, source: Source) -> EvaluationSet:
    """Read and encode both tasks' split; the sets' labels must be the model's."""
    intent, entities = tasks.intent, tasks.entities
    text_dir, sentence_dir = source.folder(intent), source.folder(entities)
    _same_labels(text_dir / "labels.txt", read_labels(text_dir / "labels.txt"), intent)
    _same_labels(sentence_dir / "labels.txt", read_tags(sentence_dir / "labels.txt"), entities)
    texts = read_labelled_texts(text_dir / f"{source.split}.jsonl", intent.labels)
    sentences = read_tagged_sentences(sentence_dir / f"{source.split}.conll", entities.labels)
    return EvaluationSet(
        texts=texts,
        sentences=sentences,
        encoded_texts=encode(tokenizer, [example.text for example in texts]),
        encoded_sentences=encode(tokenizer, [sentence.text for sentence in sentences]),
        tags=entities.labels,
    )


def _task(spec: ModelSpec, kind: str) -> Task:
    task = spec.task_of_kind(kind)
    if task is None:
        raise UsageError(f"model {spec.name}: no {kind} task; evaluation needs classification and ner")
    return task


def _same_labels(path: Path, labels: Sequence[str], task: Task) -> None:
    if set(labels) != set(task.labels):
        odd = sorted(set(labels) ^ set(task.labels))[0]
        raise DataError(f"{path}: label {odd!r} is not in both the set and task {task.name!r} of the model")
