"""A part of dev, tokenised once, on which a network is scored again and again.

Owns the part and its padded batches. Called by `sensitivity`. Needs torch (the `train` extra).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from minwatt.v1.decode import EncodedText, entity_spans
from modelkit.data.dataset import DEV, Dataset, Example
from modelkit.data.texts import AnnotatedText, LabelledText, Span, tags_of_pieces
from modelkit.inference import encode, pad
from modelkit.scoring.task_scores import entity_task_score
from modelkit.training.batches import IGNORED
from modelkit.training.network import MultiTaskEncoder

_BATCH = 32


@dataclass(frozen=True)
class Quality:
    """Each task's score (accuracy, or F1 of entities), and the sum of the tasks' mean cross entropies."""

    scores: tuple[float, ...]
    loss: float

    @property
    def mean_score(self) -> float:
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class _Batch:
    examples: Sequence[Example]
    encoded: Sequence[EncodedText]
    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


class DevSet:
    """At most so many examples of each task, drawn by the seed."""

    def __init__(self, datasets: Sequence[Dataset], tokenizer: Tokenizer, most: int, seed: int) -> None:
        self._datasets = datasets
        self._batches = [_batches(dataset, tokenizer, most, seed) for dataset in datasets]

    def quality(self, network: MultiTaskEncoder) -> Quality:
        """Of a network in evaluation mode, with a head for each of the tasks, in their order."""
        scores, total = [], 0.0
        for head, dataset in enumerate(self._datasets):
            loss, counted = 0.0, 0
            truths: list[Example] = []
            answers: list[int] = []
            found: list[frozenset[Span]] = []
            for batch in self._batches[head]:
                with torch.inference_mode():
                    logits = network.logits(head, network.hidden(batch.ids, batch.mask), batch.mask)
                    flat = batch.targets.flatten()
                    loss += float(cross_entropy(logits.flatten(0, -2), flat, reduction="sum"))
                counted += int((flat != IGNORED).sum())
                truths += batch.examples
                if dataset.task.kind == "classification":
                    answers += logits.argmax(dim=-1).tolist()
                    continue
                for row, encoded in enumerate(batch.encoded):
                    spans = entity_spans(
                        logits[row, : len(encoded)].numpy(), encoded, dataset.task.labels, min_score=0.0
                    )
                    found.append(frozenset(Span(span.start, span.end, span.label) for span in spans))
            scores.append(_score(dataset, truths, answers, found))
            total += loss / max(1, counted)
        return Quality(tuple(scores), total)


def _score(
    dataset: Dataset, truths: Sequence[Example], answers: Sequence[int], found: Sequence[frozenset[Span]]
) -> float:
    if dataset.task.kind == "classification":
        labels = [one.label for one in truths if isinstance(one, LabelledText)]
        return sum(one == other for one, other in zip(labels, answers, strict=True)) / len(labels)
    annotated = [one for one in truths if isinstance(one, AnnotatedText)]
    labels_of_entities = sorted({tag[2:] for tag in dataset.task.labels[1:]})
    return entity_task_score(dataset.task.name, DEV, annotated, found, labels_of_entities).score


def _batches(dataset: Dataset, tokenizer: Tokenizer, most: int, seed: int) -> list[_Batch]:
    pool = dataset.splits[DEV]
    examples = random.Random(seed).sample(pool, min(most, len(pool)))
    encoded = encode(tokenizer, [example.text for example in examples])
    order = sorted(range(len(examples)), key=lambda index: len(encoded[index]))
    column = {tag: number for number, tag in enumerate(dataset.task.labels)}
    batches = []
    for first in range(0, len(order), _BATCH):
        chosen = order[first : first + _BATCH]
        of_batch = [examples[index] for index in chosen]
        encoded_batch = [encoded[index] for index in chosen]
        ids, mask = (torch.from_numpy(array) for array in pad(encoded_batch))
        targets = _targets(of_batch, encoded_batch, column, ids.shape[1])
        batches.append(_Batch(of_batch, encoded_batch, ids, mask, targets))
    return batches


def _targets(
    examples: Sequence[Example], encoded: Sequence[EncodedText], column: dict[str, int], longest: int
) -> torch.Tensor:
    if isinstance(examples[0], LabelledText):
        return torch.tensor([one.label for one in examples if isinstance(one, LabelledText)])
    targets = torch.full((len(examples), longest), IGNORED, dtype=torch.long)
    for row, (example, one) in enumerate(zip(examples, encoded, strict=True)):
        spans = example.spans if isinstance(example, AnnotatedText) else ()
        tags = tags_of_pieces(spans, one.word_ids, one.offsets)
        numbers = [IGNORED if tag is None else column[tag] for tag in tags]
        targets[row, : len(numbers)] = torch.tensor(numbers)
    return targets
