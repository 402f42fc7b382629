"""Fine-tunes an encoder and its heads together.

Owns the optimisation. Leaves batches to `batches`, the network to `network`, the loss to `objective`, scoring
to its callers' hooks, the file that training resumes from to `checkpoint`. Called by `finetune` and `distil`.
Needs torch (the `train` extra).

Every optimisation step sees as many batches of each task. What is trained and exported is the running average
of the weights, which scores more evenly than any single step's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from minwatt.v1.errors import UsageError
from modelkit.recipe import TrainingOptions
from modelkit.training.batches import Batch, Batches, LearningTask
from modelkit.training.checkpoint import ResumeFile
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.objective import LabelLoss, Objective


@dataclass(frozen=True)
class TrainingData:
    """What the network's heads learn from, in its order, and what an objective of one's own learns from
    besides; `tokenizer` cuts long texts."""

    tasks: Sequence[LearningTask]
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Progress:
    """Where training stands after an epoch, with the mean loss of its steps on each task."""

    epoch: int
    epochs: int
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Hooks:
    """What training calls: `step` with (done, of all); `epoch` with the averaged network as it stands.

    Where `epoch` gives a score, the best epoch's weights are the result, else the last one's.
    """

    epoch: Callable[[Progress, MultiTaskEncoder], float | None]
    step: Callable[[int, int], None]


@dataclass
class _State:
    """What changes from epoch to epoch besides weights and optimizers."""

    epoch: int = 0
    best_score: float | None = None
    best_weights: dict[str, torch.Tensor] | None = None
    stale_epochs: int = 0  # without a better score


def train(
    network: MultiTaskEncoder,
    data: TrainingData,
    options: TrainingOptions,
    hooks: Hooks,
    resume: ResumeFile | None = None,
    objective: Objective | None = None,
) -> MultiTaskEncoder:
    """Train `network` in place and return the average of its weights, in evaluation mode.

    What is learnt is `objective`, else the labels alone; weights of its own are trained along.

    With `resume`, the state after each epoch is kept there, and training goes on from it where it is of the
    same training; the result is that of a training without a break.

    Raises UsageError where more layers are to be frozen than there are.
    """
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    _freeze(network, options.frozen_layers)
    batches = [Batches(task, data.tokenizer, options.batch_size, options.seed) for task in data.tasks]
    steps_per_epoch = -(-max(each.in_a_pass for each in batches) // options.accumulate)
    steps = steps_per_epoch * options.epochs
    objective = objective or LabelLoss(data.tasks, options.label_smoothing)
    optimizers = _optimizers(network, objective, options)
    schedules = [
        LambdaLR(each, lambda step: _rate_factor(step, steps, options.warmup)) for each in optimizers
    ]
    averaged = AveragedModel(network, avg_fn=_running_average(options.average_decay))
    parts = [network, averaged, objective, *optimizers, *schedules]
    state = _resumed(resume, parts)
    streams = [each.starting_at(state.epoch * steps_per_epoch * options.accumulate) for each in batches]
    network.train()
    while state.epoch < options.epochs and not _is_stale(state, options):
        state.epoch += 1
        losses = torch.zeros(len(streams))
        for step in range(1, steps_per_epoch + 1):
            losses += _step(network, objective, streams, optimizers, options)
            for schedule in schedules:
                schedule.step()
            done = (state.epoch - 1) * steps_per_epoch + step
            if done % options.average_every == 0 or step == steps_per_epoch:
                averaged.update_parameters(network)
            hooks.step(done, steps)
        averaged.module.eval()
        means = tuple((losses / steps_per_epoch).tolist())
        score = hooks.epoch(Progress(state.epoch, options.epochs, means), averaged.module)
        _judge(state, score, averaged.module)
        if resume is not None:
            resume.save(_snapshot(state, parts))
    if state.best_weights is not None:
        averaged.module.load_state_dict(state.best_weights)
    averaged.module.eval()
    result: MultiTaskEncoder = averaged.module
    return result


def _step(
    network: MultiTaskEncoder,
    objective: Objective,
    streams: Sequence[Iterator[Batch]],
    optimizers: Sequence[torch.optim.Optimizer],
    options: TrainingOptions,
) -> torch.Tensor:
    """One optimisation step on all tasks' gradients; returns the losses."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    losses = torch.zeros(len(streams))
    for _ in range(options.accumulate):
        for head, stream in enumerate(streams):
            loss: torch.Tensor = objective(network, head, next(stream))
            (loss / options.accumulate).backward()
            losses[head] += loss.detach() / options.accumulate
    dense = [p for p in network.parameters() if p.grad is not None and not p.grad.is_sparse]
    nn.utils.clip_grad_norm_(dense, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return losses


def _freeze(network: MultiTaskEncoder, layers: int) -> None:
    """The first `layers` of the encoder, with the embeddings below them, stay as they are."""
    there = network.encoder.encoder.layer
    if layers > len(there):
        raise UsageError(f"frozen-layers = {layers}: the encoder has {len(there)} layers")
    if layers:
        for part in (network.encoder.embeddings, *there[:layers]):
            part.requires_grad_(False)


def _optimizers(
    network: MultiTaskEncoder, objective: Objective, options: TrainingOptions
) -> list[torch.optim.Optimizer]:
    """Dense weights by AdamW; word embeddings by SparseAdam, which touches a batch's rows only.

    A dense step over 30,522 × 384 embeddings would cost more than a small batch's matrix products.
    """
    words = network.encoder.embeddings.word_embeddings
    words.sparse = True
    heads = [*network.task_heads.parameters(), *network.forms_of_tokens(), *objective.parameters()]
    apart = {id(p) for p in [words.weight, *heads]}
    body = [p for p in network.parameters() if id(p) not in apart and p.requires_grad]
    groups = [
        {"params": [p for p in body if p.ndim > 1], "lr": options.encoder_rate},
        {"params": [p for p in body if p.ndim == 1], "lr": options.encoder_rate, "weight_decay": 0.0},
        {"params": heads, "lr": options.head_rate},
    ]
    dense = torch.optim.AdamW(
        [group for group in groups if group["params"]], weight_decay=options.weight_decay, fused=True
    )
    if not words.weight.requires_grad:
        return [dense]
    return [dense, torch.optim.SparseAdam([words.weight], lr=options.embedding_rate)]


def _rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear rise over the first `warmup` of the steps, then linear fall to zero."""
    rise = max(1.0, warmup * steps)
    return min((step + 1) / rise, max(0.0, (steps - step) / max(1.0, steps - rise)))


def _running_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]:
    """The mean of the first 1 / (1 - decay) weights, then an exponential average of that length."""

    def update(average: torch.Tensor, weights: torch.Tensor, updates: int) -> torch.Tensor:
        return average.lerp_(weights, max(1 - decay, 1 / (int(updates) + 1)))

    return update


def _judge(state: _State, score: float | None, network: MultiTaskEncoder) -> None:
    """Keep the weights of the best score, and count the epochs since."""
    if score is None:
        return
    if state.best_score is None or score > state.best_score:
        state.best_score, state.stale_epochs = score, 0
        state.best_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    else:
        state.stale_epochs += 1


def _is_stale(state: _State, options: TrainingOptions) -> bool:
    return options.patience is not None and state.stale_epochs >= options.patience


def _snapshot(state: _State, parts: Sequence[Any]) -> dict[str, Any]:
    return {
        "state": dict(vars(state)),
        "parts": [part.state_dict() for part in parts],
        "generator": torch.get_rng_state(),
    }


def _resumed(resume: ResumeFile | None, parts: Sequence[Any]) -> _State:
    snapshot = None if resume is None else resume.load()
    if snapshot is None:
        return _State()
    for part, saved in zip(parts, snapshot["parts"], strict=True):
        part.load_state_dict(saved)
    torch.set_rng_state(snapshot["generator"])
    return _State(**snapshot["state"])
