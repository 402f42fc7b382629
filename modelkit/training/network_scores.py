"""What a network's heads score on a split: while it trains, at the end, and before and after new data.

Leaves counting to `task_scores` and `class_scores`. Called by `finetune` and `forgetting`. Needs the `train`
extra.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer

from minwatt.v1.decode import EncodedText, Floats, entity_spans
from minwatt.v1.model_dir import Task
from modelkit.data.dataset import Example
from modelkit.data.texts import AnnotatedText, LabelledText, Span
from modelkit.inference import encode, pad
from modelkit.scoring.class_scores import class_task_score
from modelkit.scoring.task_scores import TaskScore, entity_task_score
from modelkit.training.network import MultiTaskEncoder

_ENCODED_AT_A_TIME = 1024
_BATCH = 32


def score(
    network: MultiTaskEncoder, task: Task, tokenizer: Tokenizer, examples: Sequence[Example], split: str
) -> TaskScore:
    """What the network's head of that task scores on examples; `split` is their name."""
    head = network.tasks.index(task)
    texts = [example.text for example in examples]
    if task.kind == "classification":
        answers: dict[int, int] = {}
        for index, logits, _ in _logits(network, head, tokenizer, texts):
            answers[index] = int(logits.argmax())
        truths = [example.label for example in examples if isinstance(example, LabelledText)]
        return class_task_score(
            task.name, split, truths, [answers[i] for i in range(len(texts))], task.labels
        )
    found: dict[int, frozenset[Span]] = {}
    for index, logits, encoded in _logits(network, head, tokenizer, texts):
        spans = entity_spans(logits, encoded, task.labels, min_score=0.0)
        found[index] = frozenset(Span(span.start, span.end, span.label) for span in spans)
    annotated = [example for example in examples if isinstance(example, AnnotatedText)]
    entities = sorted({tag[2:] for tag in task.labels[1:]})
    return entity_task_score(task.name, split, annotated, [found[i] for i in range(len(texts))], entities)


def _logits(
    network: MultiTaskEncoder, head: int, tokenizer: Tokenizer, texts: Sequence[str]
) -> Iterator[tuple[int, Floats, EncodedText]]:
    """(index, logits, encoded) of every text, in order of length within those encoded at a time."""
    for first in range(0, len(texts), _ENCODED_AT_A_TIME):
        encoded = encode(tokenizer, texts[first : first + _ENCODED_AT_A_TIME])
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            arrays = pad([encoded[index] for index in batch])
            ids, mask = (torch.from_numpy(array).to(network.device) for array in arrays)
            with torch.inference_mode():
                logits = network.logits(head, network.hidden(ids, mask), mask).cpu().numpy()
            for row, index in enumerate(batch):
                yield first + index, logits[row], encoded[index]
