"""Fine-tunes both heads and the encoder together.

Owns examples → batches → optimisation. Leaves file formats to `data`, augmentation to `augment`, the
network to `network`, scoring to `evaluate`. Called by `build`. Needs torch (the `train` extra).

Every optimisation step sees one batch of each task. What is trained and exported is the running average
of the weights, which scores more evenly than any single step's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from minwatt.v1.errors import UsageError
from modelkit.augment import hide_tokens, mentions_by_label, swap_mentions
from modelkit.data import LabelledText, TaggedSentence, tags_of_pieces
from modelkit.network import TwoHeadEncoder
from modelkit.recipe import TrainingOptions

MASK = "[MASK]"
IGNORED = -100  # cross_entropy's default ignore_index


@dataclass(frozen=True)
class TrainingData:
    """What both heads learn from; `tags` gives the entity head's columns, `tokenizer` cuts long texts."""

    texts: Sequence[LabelledText]
    sentences: Sequence[TaggedSentence]
    tags: Sequence[str]
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Batch:
    """Padded to its own longest: ids and mask [batch, tokens]; targets [batch] or [batch, tokens]."""

    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class Progress:
    """Where training stands after an epoch, with the mean losses of its steps."""

    epoch: int
    epochs: int
    intent_loss: float
    entity_loss: float


@dataclass(frozen=True)
class Hooks:
    """What training calls: `epoch` with the averaged network as it stands, `step` with (done, of all)."""

    epoch: Callable[[Progress, TwoHeadEncoder], None]
    step: Callable[[int, int], None]


Row = tuple[list[int], int | list[int]]


def train(
    network: TwoHeadEncoder, data: TrainingData, options: TrainingOptions, hooks: Hooks
) -> TwoHeadEncoder:
    """Train `network` in place and return the average of its weights, in evaluation mode."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    steps_per_epoch = -(-len(data.sentences) // options.batch_size)
    steps = steps_per_epoch * options.epochs
    optimizers = _optimizers(network, options)
    schedules = [
        LambdaLR(each, lambda step: _rate_factor(step, steps, options.warmup)) for each in optimizers
    ]
    averaged = AveragedModel(network, avg_fn=_running_average(options.average_decay))
    generator = random.Random(options.seed)
    text_batches = _text_batches(data, options, generator)
    sentence_batches = _sentence_batches(data, options, generator)
    network.train()
    for epoch in range(1, options.epochs + 1):
        losses = torch.zeros(2)
        for step in range(1, steps_per_epoch + 1):
            losses += _step(network, next(text_batches), next(sentence_batches), optimizers, options)
            for schedule in schedules:
                schedule.step()
            done = (epoch - 1) * steps_per_epoch + step
            if done % options.average_every == 0 or done == steps:
                averaged.update_parameters(network)
            hooks.step(done, steps)
        averaged.module.eval()
        intent_loss, entity_loss = (losses / steps_per_epoch).tolist()
        hooks.epoch(Progress(epoch, options.epochs, intent_loss, entity_loss), averaged.module)
    result: TwoHeadEncoder = averaged.module
    return result


def _step(
    network: TwoHeadEncoder,
    texts: Batch,
    sentences: Batch,
    optimizers: Sequence[torch.optim.Optimizer],
    options: TrainingOptions,
) -> torch.Tensor:
    """One optimisation step on both tasks' gradients; returns the two losses."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = network.hidden(texts.ids, texts.mask)
    logits = network.intent_logits(states, texts.mask)
    intent_loss = cross_entropy(logits, texts.targets, label_smoothing=options.label_smoothing)
    intent_loss.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = network.hidden(sentences.ids, sentences.mask)
    tag_logits = network.entity_logits(states).flatten(0, 1)
    entity_loss = cross_entropy(
        tag_logits, sentences.targets.flatten(), label_smoothing=options.label_smoothing
    )
    entity_loss.backward()
    dense = [p for p in network.parameters() if p.grad is not None and not p.grad.is_sparse]
    nn.utils.clip_grad_norm_(dense, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return torch.stack([intent_loss.detach(), entity_loss.detach()])


def _optimizers(network: TwoHeadEncoder, options: TrainingOptions) -> list[torch.optim.Optimizer]:
    """Dense weights by AdamW; word embeddings by SparseAdam, which touches a batch's rows only.

    A dense step over 30,522 × 384 embeddings would cost more than a small batch's matrix products.
    """
    words = network.encoder.embeddings.word_embeddings
    words.sparse = True
    heads = [*network.intent_head.parameters(), *network.entity_head.parameters()]
    apart = {id(p) for p in [words.weight, *heads]}
    body = [p for p in network.parameters() if id(p) not in apart]
    groups = [
        {"params": [p for p in body if p.ndim > 1], "lr": options.encoder_rate},
        {"params": [p for p in body if p.ndim == 1], "lr": options.encoder_rate, "weight_decay": 0.0},
        {"params": heads, "lr": options.head_rate},
    ]
    return [
        torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=True),
        torch.optim.SparseAdam([words.weight], lr=options.embedding_rate),
    ]


def _rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear rise over the first `warmup` of the steps, then linear fall to zero."""
    rise = max(1.0, warmup * steps)
    return min((step + 1) / rise, max(0.0, (steps - step) / max(1.0, steps - rise)))


def _running_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]:
    """The mean of the first 1 / (1 - decay) weights, then an exponential average of that length."""

    def update(average: torch.Tensor, weights: torch.Tensor, updates: int) -> torch.Tensor:
        return average.lerp_(weights, max(1 - decay, 1 / (int(updates) + 1)))

    return update


def _text_batches(data: TrainingData, options: TrainingOptions, generator: random.Random) -> Iterator[Batch]:
    """Endless batches of labelled texts."""
    encodings = data.tokenizer.encode_batch([example.text for example in data.texts])
    mask_id = _mask_id(data.tokenizer)
    while True:
        rows: list[Row] = []
        for example, encoding in zip(data.texts, encodings, strict=True):
            ids = hide_tokens(
                encoding.ids, encoding.special_tokens_mask, mask_id, options.hide_text_probability, generator
            )
            rows.append((ids, example.label))
        yield from _batches(rows, options.batch_size, generator)


def _sentence_batches(
    data: TrainingData, options: TrainingOptions, generator: random.Random
) -> Iterator[Batch]:
    """Endless batches of tagged sentences, augmented anew in every pass."""
    mentions = mentions_by_label(data.sentences)
    mask_id = _mask_id(data.tokenizer)
    column = {tag: i for i, tag in enumerate(data.tags)}
    while True:
        varied = [swap_mentions(s, mentions, options.swap_probability, generator) for s in data.sentences]
        rows: list[Row] = []
        encodings = data.tokenizer.encode_batch([sentence.text for sentence in varied])
        for sentence, encoding in zip(varied, encodings, strict=True):
            ids = hide_tokens(
                encoding.ids,
                encoding.special_tokens_mask,
                mask_id,
                options.hide_sentence_probability,
                generator,
            )
            tags = tags_of_pieces(sentence, encoding.word_ids, encoding.offsets)
            targets = [IGNORED if tag is None else column[tag] for tag in tags]
            rows.append((ids, targets))
        yield from _batches(rows, options.batch_size, generator)


def _mask_id(tokenizer: Tokenizer) -> int:
    mask_id = tokenizer.token_to_id(MASK)
    if mask_id is None:
        raise UsageError(f"base: tokenizer.json has no {MASK} token, which hides words in training")
    return int(mask_id)


def _batches(rows: list[Row], batch_size: int, generator: random.Random) -> Iterator[Batch]:
    """Batches of rows of like length, in random order: random groups, sorted within."""
    order = list(range(len(rows)))
    generator.shuffle(order)
    group = 50 * batch_size
    chosen: list[list[int]] = []
    for first in range(0, len(order), group):
        by_length = sorted(order[first : first + group], key=lambda i: len(rows[i][0]))
        chosen += [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    generator.shuffle(chosen)
    for indices in chosen:
        yield _collate([rows[i] for i in indices])


def _collate(rows: Sequence[Row]) -> Batch:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for row, (tokens, _) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    if isinstance(rows[0][1], int):
        return Batch(ids, mask, torch.tensor([target for _, target in rows]))
    targets = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for row, (tokens, target) in enumerate(rows):
        targets[row, : len(tokens)] = torch.tensor(target)
    return Batch(ids, mask, targets)
