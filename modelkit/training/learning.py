"""What a training learns, how its epochs are judged, and what it must have in common with one to go on from.

Called by `finetune`, `distil` and `prune`. Needs torch (the `train` extra).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import sha256_of
from modelkit.data.dataset import DEV, TRAIN, Dataset, Example, digest_of
from modelkit.data.texts import LabelledText
from modelkit.recipe import DistilOptions, FinetuneOptions
from modelkit.training.base import CONFIG, HEADS, TASKS, TOKENIZER, WEIGHTS
from modelkit.training.batches import LearningTask
from modelkit.training.hearers import Hearers
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.network_scores import score
from modelkit.training.train import Progress


def learning(dataset: Dataset, options: FinetuneOptions | DistilOptions) -> LearningTask:
    """What a head learns from, and how it is varied."""
    training, examples = options.training, dataset.splits[TRAIN]
    loss_weight = training.loss_weights.get(dataset.task.name, 1.0)
    if dataset.task.kind == "ner":
        return LearningTask(
            dataset.task,
            examples,
            training.hide_sentence_probability,
            training.swap_probability,
            lower_probability=training.lower_probability,
            loss_weight=loss_weight,
        )
    weights = class_weights(examples, len(dataset.task.labels)) if options.class_weights else None
    return LearningTask(
        dataset.task,
        examples,
        training.hide_text_probability,
        weights=weights,
        lower_probability=training.lower_probability,
        loss_weight=loss_weight,
    )


def class_weights(examples: Sequence[Example], labels: int) -> tuple[float, ...]:
    """All texts over the label's share of them if all were as many: a label of half as many counts twice.

    A label without examples, known from an earlier checkpoint, takes part in the smoothing alone.
    """
    counts = Counter(example.label for example in examples if isinstance(example, LabelledText))
    return tuple(counts.total() / (labels * (counts[label] or counts.total())) for label in range(labels))


def judge(
    datasets: Sequence[Dataset], tokenizer: Tokenizer, hearers: Hearers
) -> Callable[[Progress, MultiTaskEncoder], float]:
    """What is said of an epoch; it gives the mean of the tasks' scores on dev."""

    def judged(progress: Progress, network: MultiTaskEncoder) -> float:
        scores = [score(network, one.task, tokenizer, one.splits[DEV], DEV) for one in datasets]
        lines = "; ".join(
            f"{one.task}: loss {loss:.3f}, dev {one.metric.rpartition('.')[2]} {one.score:.4f}"
            for one, loss in zip(scores, progress.losses, strict=False)  # of other losses nothing is scored
        )
        hearers.say(f"epoch {progress.epoch} of {progress.epochs}: {lines}")
        return sum(one.score for one in scores) / len(scores)

    return judged


def told(options: FinetuneOptions | DistilOptions, base: Path, **more: object) -> dict[str, str]:
    """What a training must have in common with one that it goes on from. `base`: what it begins with."""
    tasks, replayed = options.tasks, {}
    if isinstance(options, FinetuneOptions):
        tasks += options.auxiliary
        replayed = {f"replay of {file.name}": digest_of([file.path]) for file in options.replay}
    digests = {f"data of {files.name}": digest_of(files.splits.values()) for files in tasks}
    there = [name for name in (CONFIG, WEIGHTS, TOKENIZER, HEADS, TASKS) if (base / name).is_file()]
    weights = {name: sha256_of(base / name) for name in there}
    names = {"tasks": " ".join(files.name for files in tasks), "torch": torch.__version__}
    chosen = asdict(options.training) | {"class_weights": options.class_weights} | more
    return {name: str(value) for name, value in (names | digests | replayed | weights | chosen).items()}


def told_digest(told: object) -> str:
    """Short for what a training was told."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def refuse_long_texts(network: MultiTaskEncoder, options: FinetuneOptions | DistilOptions) -> None:
    """Raises UsageError where texts are longer than the encoder has positions for."""
    most = network.encoder.config.max_position_embeddings
    for tokens in (options.training.max_tokens, options.served_tokens or options.training.max_tokens):
        if not 8 <= tokens <= most:
            raise UsageError(f"max-tokens = {tokens}: allowed: 8 to {most}, the encoder's positions")
