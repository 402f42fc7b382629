"""Trains a finished network a little more with a quantization scheme's rounding in its forward pass.

Owns the order: load the checkpoint, round, learn from the network without rounding, export float32 weights
that are used to being rounded. Leaves the rounding to `fake_quantization`, batches to `batches`. Called by
`package`. Needs torch.

The network as it was is the teacher, and its logits for every head are the target, not the labels: trained on
labels again, a network moves further from its own answers than rounding took it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.nn.functional import kl_div, log_softmax
from torch.optim.lr_scheduler import LinearLR

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, Task
from modelkit.compress.calibration import Batches as CalibrationBatches
from modelkit.data.examples import Source
from modelkit.export import export
from modelkit.inference import Graph, load_tokenizer
from modelkit.recipe import Retraining
from modelkit.release.parity import parity
from modelkit.scoring.evaluate import BASELINE, Say
from modelkit.training.base import TOKENIZER
from modelkit.training.batches import Batch, Batches, LearningTask
from modelkit.training.checkpoint import adopt_heads
from modelkit.training.fake_quantization import add_rounding, remove_rounding
from modelkit.training.network import MultiTaskEncoder, load_base

MAX_DIFFERENCE = 0.01  # of a logit, between a checkpoint and the graph that was exported from it


def retrain(
    draft: ModelDirectory,
    checkpoint: Path,
    source: Source,
    batches: CalibrationBatches,
    how: Retraining,
    file: Path,
    say: Say,
) -> None:
    """Write to `file` the float32 graph of `checkpoint` after `how.epochs` epochs on the train split's texts.

    Raises UsageError where the checkpoint is not what `draft`'s fp32 graph was exported from.
    """
    tasks = draft.spec.tasks
    network, teacher = load_trained(checkpoint, tasks), load_trained(checkpoint, tasks)
    fp32 = Graph(draft.variant_file(BASELINE), (None, None))
    if not parity(teacher, fp32, batches[:1]).logit <= MAX_DIFFERENCE:  # a NaN is none of both
        raise UsageError(
            f"{checkpoint}: other weights than those of the {BASELINE} graph; `finetune` writes both"
        )
    tokenizer = load_tokenizer(draft.tokenizer_file(), min(how.max_tokens, draft.spec.max_tokens))
    learning = [_learning(task, source, how) for task in tasks]
    streams = [Batches(one, tokenizer, how.batch_size, how.seed) for one in learning]
    add_rounding(network, how.scheme, batches)
    torch.manual_seed(how.seed)
    torch.set_num_threads(how.threads)
    _learn(network, teacher, streams, how, say)
    remove_rounding(network)
    export(network, file)


def load_trained(checkpoint: Path, tasks: tuple[Task, ...]) -> MultiTaskEncoder:
    """A checkpoint's encoder with its heads, without dropout. Raises UsageError unless it has one for each of
    `tasks`."""
    network = load_base(checkpoint, tasks, 0.0, checkpoint / TOKENIZER)
    adopted = adopt_heads(network, checkpoint)
    for task in tasks:
        if task.name not in adopted:
            there = ", ".join(adopted) or "none"
            raise UsageError(f"{checkpoint}: no head for task {task.name!r} with its labels; there: {there}")
    network.eval()
    return network


def _learning(task: Task, source: Source, how: Retraining) -> LearningTask:
    if task.kind == "classification":
        return LearningTask(task, source.texts(task), how.hide_probability)
    return LearningTask(task, source.annotated(task), how.hide_probability, how.swap_probability)


def _learn(
    network: MultiTaskEncoder,
    teacher: MultiTaskEncoder,
    streams: Sequence[Batches],
    how: Retraining,
    say: Say,
) -> None:
    """Train the rounded layers of `network` in place: an epoch is a pass over the largest task."""
    steps = how.epochs * max(stream.in_a_pass for stream in streams)
    learnt = list(network.encoder.encoder.parameters())  # the embeddings' table and the heads stay
    optimizer = torch.optim.AdamW(learnt, lr=how.rate, weight_decay=0.0)
    schedule = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    texts: list[Iterator[Batch]] = [stream.starting_at(0) for stream in streams]
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros(())
        for batch in map(next, texts):
            part = _divergence(network, teacher, batch)
            part.backward()
            loss += part.detach()
        optimizer.step()
        schedule.step()
        say(f"{how.scheme}: training with its rounding, step {step} of {steps}, divergence {loss:.5f}")


def _divergence(network: MultiTaskEncoder, teacher: MultiTaskEncoder, batch: Batch) -> torch.Tensor:
    """Kullback-Leibler, in nats: of a text or a token of the batch on the mean, over all heads."""
    with torch.no_grad():
        expected = teacher(batch.ids, batch.mask)
    total = torch.zeros(())
    for one, other in zip(network(batch.ids, batch.mask), expected, strict=True):
        keep = batch.mask.bool() if one.ndim == 3 else torch.ones(len(one), dtype=torch.bool)
        answers, targets = log_softmax(one[keep], -1), log_softmax(other[keep], -1)
        total = total + kl_div(answers, targets, log_target=True, reduction="batchmean")
    return total
