"""Turns a task's examples into padded batches, varied anew in each pass.

A batch is a function of the seed, the task and the batch's number, so that training goes on after a kill
where it stood; several processes share its rows. No more texts are encoded at a time than a group holds.
Leaves the variations to `augment`, optimisation to `train`. Called by `train`. Needs torch (the `train`
extra).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Encoding, Tokenizer

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.data.augment import drop_capitals, hide_tokens, mentions_by_label, swap_mentions
from modelkit.data.texts import AnnotatedText, LabelledText, tags_of_pieces

MASK = "[MASK]"
IGNORED = -100  # cross_entropy's default ignore_index
GROUP = 50  # batches encoded at a time, and sorted by length


@dataclass(frozen=True)
class LearningTask:
    """What one head learns from, and how its examples are varied."""

    task: Task
    examples: Sequence[LabelledText | AnnotatedText]
    hide_probability: float  # of a token
    swap_probability: float = 0.0  # of an entity mention
    lower_probability: float = 0.0  # that a text loses its capitals
    weights: tuple[float, ...] | None = None  # of each label's losses; None: all alike
    loss_weight: float = 1.0  # of its loss beside the other tasks'


@dataclass(frozen=True)
class Batch:
    """Padded to its own longest: ids and mask [batch, tokens]; targets [batch] or [batch, tokens]."""

    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.ids.to(device), self.mask.to(device), self.targets.to(device))


Row = tuple[list[int], int | list[int]]


class Batches:
    """The endless batches of one task, or the share of one of several processes in them: `batch_size` rows of
    each process, together one batch. Raises UsageError where the tokenizer has no mask token."""

    def __init__(
        self,
        learning: LearningTask,
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`share`: the process's number, and how many there are."""
        mask_id = tokenizer.token_to_id(MASK)
        if mask_id is None:
            raise UsageError(f"base: tokenizer.json has no {MASK} token, which hides words in training")
        self._mask_id = int(mask_id)
        self._learning = learning
        self._tokenizer = tokenizer
        self._process, self._processes = share
        self._batch_size = batch_size * self._processes
        self._seed = f"{seed} {learning.task.name}"
        annotated = [example for example in learning.examples if isinstance(example, AnnotatedText)]
        self._mentions = mentions_by_label(annotated)
        self._column = {tag: i for i, tag in enumerate(learning.task.labels)}
        self.in_a_pass = -(-len(learning.examples) // self._batch_size)

    def starting_at(self, number: int) -> Iterator[Batch]:
        """The batches from the one with that number on, from 0: pass after pass, group after group."""
        passes, skipped = divmod(number, self.in_a_pass)
        while True:
            order = list(range(len(self._learning.examples)))
            random.Random(f"{self._seed} {passes}").shuffle(order)
            for first in range(0, self.in_a_pass, GROUP):
                in_group = min(GROUP, self.in_a_pass - first)
                if skipped >= in_group:
                    skipped -= in_group
                    continue
                chosen = order[first * self._batch_size : (first + GROUP) * self._batch_size]
                random.Random(f"{self._seed} {passes} {first}").shuffle(batches := self._by_length(chosen))
                yield from self._encoded(batches[skipped:], passes)
                skipped = 0
            passes += 1

    def _by_length(self, chosen: Sequence[int]) -> list[list[int]]:
        """Examples of like length together: by code points, which need no tokens of other processes' rows."""
        ordered = sorted(chosen, key=lambda index: len(self._learning.examples[index].text))
        return [ordered[i : i + self._batch_size] for i in range(0, len(ordered), self._batch_size)]

    def _encoded(self, batches: Sequence[Sequence[int]], passes: int) -> Iterator[Batch]:
        """This process's rows of each batch; there may be none in the last of a pass."""
        mine = [batch[self._process :: self._processes] for batch in batches]
        rows = iter(self._rows([index for batch in mine for index in batch], passes))
        one_each = self._learning.task.kind == "classification"
        for batch in mine:
            yield _collate([next(rows) for _ in batch], one_each)

    def _rows(self, chosen: Sequence[int], passes: int) -> list[Row]:
        """Varied by generators of their own: a row is the same whatever rows it is encoded with."""
        generators = [random.Random(f"{self._seed} {passes} row {index}") for index in chosen]
        examples = [
            self._varied(self._learning.examples[index], generator)
            for index, generator in zip(chosen, generators, strict=True)
        ]
        encodings = self._tokenizer.encode_batch([example.text for example in examples])
        return [
            (self._hidden(encoding, generator), self._target(example, encoding))
            for example, encoding, generator in zip(examples, encodings, generators, strict=True)
        ]

    def _varied(
        self, example: LabelledText | AnnotatedText, generator: random.Random
    ) -> LabelledText | AnnotatedText:
        lower = self._learning.lower_probability
        if isinstance(example, LabelledText):
            return drop_capitals(example, lower, generator)
        swapped = swap_mentions(example, self._mentions, self._learning.swap_probability, generator)
        return drop_capitals(swapped, lower, generator)

    def _hidden(self, encoding: Encoding, generator: random.Random) -> list[int]:
        probability = self._learning.hide_probability
        return hide_tokens(encoding.ids, encoding.special_tokens_mask, self._mask_id, probability, generator)

    def _target(self, example: LabelledText | AnnotatedText, encoding: Encoding) -> int | list[int]:
        if isinstance(example, LabelledText):
            return example.label
        tags = tags_of_pieces(example.spans, encoding.word_ids, encoding.offsets)
        return [IGNORED if tag is None else self._column[tag] for tag in tags]


def _collate(rows: Sequence[Row], one_each: bool) -> Batch:
    longest = max((len(ids) for ids, _ in rows), default=0)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, (tokens, _) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    if one_each:
        return Batch(ids, mask, torch.tensor([target for _, target in rows], dtype=torch.long))
    targets = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for row, (tokens, target) in enumerate(rows):
        targets[row, : len(tokens)] = torch.tensor(target)
    return Batch(ids, mask, targets)
