"""What a model scores on each task of its own: by label, and which labels it takes for which.

Pure. Owns the scores' shape and those of entities; those of labels are `class_scores`'. Called by
`finetune` and `report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from pydantic import BaseModel, ConfigDict

from modelkit.data.texts import AnnotatedText, Span


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class LabelScore(_Frozen):
    """Of one label, or one entity type; `support` counts how often it is the truth."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Confusion(_Frozen):
    """How many texts of label `truth` were answered with label `answer`, another one."""

    truth: str
    answer: str
    texts: int


class TaskScore(_Frozen):
    """One task on one split. `score` is the accuracy of classification, the micro F1 of exact entities."""

    task: str
    kind: str
    split: str
    examples: int
    score: float
    macro_f1: float
    labels: tuple[LabelScore, ...]
    confusions: tuple[Confusion, ...] = ()  # most texts first; of classification

    @property
    def metric(self) -> str:
        """The name of `score` in model.yaml."""
        return f"{self.task}.{'f1' if self.kind == 'ner' else 'accuracy'}"


def entity_task_score(
    task: str,
    split: str,
    truths: Sequence[AnnotatedText],
    answers: Sequence[Set[Span]],
    labels: Sequence[str],
) -> TaskScore:
    """An entity counts when start, end and label are all right. What is divided by nothing is 0."""
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for one, answer in zip(truths, answers, strict=True):
        truth = frozenset(one.spans)
        right.update(span.label for span in answer & truth)
        found.update(span.label for span in answer)
        expected.update(span.label for span in truth)
    scores = tuple(
        LabelScore(
            label=label,
            precision=_share(right[label], found[label]),
            recall=_share(right[label], expected[label]),
            f1=_share(2 * right[label], found[label] + expected[label]),
            support=expected[label],
        )
        for label in labels
    )
    return TaskScore(
        task=task,
        kind="ner",
        split=split,
        examples=len(truths),
        score=_share(2 * right.total(), found.total() + expected.total()),
        macro_f1=sum(score.f1 for score in scores) / len(scores),
        labels=scores,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
