"""Scores of a classification task, by scikit-learn (the `train` extra). Called by `finetune`."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from modelkit.scoring.task_scores import Confusion, LabelScore, TaskScore


def class_task_score(
    task: str, split: str, truths: Sequence[int], answers: Sequence[int], labels: Sequence[str]
) -> TaskScore:
    """`truths` and `answers` are columns of `labels`. What is divided by nothing is 0."""
    columns = list(range(len(labels)))
    rows = precision_recall_fscore_support(truths, answers, labels=columns, zero_division=0)
    scores = tuple(
        LabelScore(
            label=label, precision=float(precision), recall=float(recall), f1=float(f1), support=int(support)
        )
        for label, precision, recall, f1, support in zip(labels, *rows, strict=True)
    )
    matrix = confusion_matrix(truths, answers, labels=columns)
    confusions = [
        Confusion(truth=labels[truth], answer=labels[answer], texts=int(matrix[truth, answer]))
        for truth in columns
        for answer in columns
        if truth != answer and matrix[truth, answer]
    ]
    return TaskScore(
        task=task,
        kind="classification",
        split=split,
        examples=len(truths),
        score=float(accuracy_score(truths, answers)),
        macro_f1=sum(score.f1 for score in scores) / len(scores),
        labels=scores,
        confusions=tuple(sorted(confusions, key=lambda confusion: -confusion.texts)),
    )
