"""Finds names with a model directory's entity head, on the CPU.

Owns what makes a word a name here: it is masked where the entity types asked for are likely together, even
where none of them, or no entity at all, is likeliest: a filter would rather mask too much. Leaves running
the graph to `inference`. Called by `run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minwatt.v1.decode import EncodedText, Floats, softmax
from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from modelkit.inference import Graph, encode_windows, read_tokenizer, run_all
from modelkit.mask.findings import Finding, kind_of_label

_JOINTS = frozenset(" \t\n'’.-\u00a0")  # between two words of one name
_LONGEST_JOINT = 2


class NameFinder:
    """A model's entity head. Raises UsageError when the directory has none, or not all of `labels`.

    min_score: probability from which on a word is a name.
    """

    def __init__(self, model_dir: Path, labels: Sequence[str], min_score: float) -> None:
        directory = ModelDirectory.open(model_dir)
        spec = directory.spec
        task = spec.task_of_kind("ner")
        if task is None:
            raise UsageError(f"--model = {str(model_dir)!r}: no ner task; allowed: a model that has one")
        columns: dict[str, list[int]] = {}
        for column, tag in enumerate(task.labels):
            columns.setdefault(tag[2:], []).append(column)
        for label in labels:
            if label not in columns or not label:
                there = ", ".join(filter(None, columns))
                raise UsageError(
                    f"--entities = {','.join(labels)!r}: {label!r}; allowed: none, or of {there}"
                )
        present = directory.present_variants()
        variant = spec.default_variant if spec.default_variant in present else next(iter(present), "")
        self.described = f"{spec.name} {spec.version} {variant}"
        self._graph = Graph(directory.variant_file(variant), (None, task.output))
        self._tokenizer = read_tokenizer(directory.tokenizer_file())
        self._max_tokens = spec.max_tokens
        self._columns: dict[str, list[int]] = {}
        for label in dict.fromkeys(labels):  # two may be of one kind: PER and PERSON
            self._columns.setdefault(kind_of_label(label), []).extend(columns[label])
        self._min_score = min_score

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The names of each text. One longer than the model reads is read in windows that overlap."""
        owners, windows = [], []
        for owner, encoded in encode_windows(self._tokenizer, texts, self._max_tokens):
            owners.append(owner)
            windows.append(encoded)
        found: list[list[Finding]] = [[] for _ in texts]
        for index, logits in run_all(self._graph, windows):
            owner = owners[index]
            found[owner] += self._names(texts[owner], windows[index], softmax(logits.tags))
        return found

    def _names(self, text: str, encoded: EncodedText, probabilities: Floats) -> Iterator[Finding]:
        kinds = list(self._columns)
        opened: Finding | None = None
        for start, end, rows in _words(encoded):
            mean = probabilities[rows].mean(axis=0)
            scores = [float(mean[self._columns[kind]].sum()) for kind in kinds]
            if sum(scores) < self._min_score or not any(map(str.isalnum, text[start:end])):
                continue
            kind = kinds[int(np.argmax(scores))]
            if opened and opened.kind == kind and _joined(text[opened.end : start]):
                opened = Finding(opened.start, end, kind)
                continue
            if opened:
                yield opened
            opened = Finding(start, end, kind)
        if opened:
            yield opened


def _words(encoded: EncodedText) -> Iterator[tuple[int, int, list[int]]]:
    """Of each word: start, end and its pieces' rows."""
    rows: list[int] = []
    for row, word in enumerate([*encoded.word_ids, None]):
        if rows and word != encoded.word_ids[rows[0]]:
            yield encoded.offsets[rows[0]][0], encoded.offsets[rows[-1]][1], rows
            rows = []
        if word is not None:
            rows.append(row)


def _joined(between: str) -> bool:
    return len(between) <= _LONGEST_JOINT and _JOINTS.issuperset(between)
