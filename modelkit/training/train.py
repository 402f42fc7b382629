"""Fine-tunes an encoder and its heads together, in one process or several.

Owns the optimisation loop. Leaves batches to `batches`, the network to `network`, the loss to `objective`,
what trains at which rate to `optimizers`, what processes exchange to `processes`, scoring to its callers'
hooks, the file that training resumes from to `checkpoint`. Called by `finetune`, `distil` and `prune`. Needs
torch (the `train` extra).

Every optimisation step sees as many batches of each task. A task's loss is the mean over all its targets of
the step, whatever batches and processes they came in. What is trained and exported is the running average
of the weights, which scores more evenly than any single step's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim import Optimizer, SparseAdam
from torch.optim.swa_utils import AveragedModel

from minwatt.v1.errors import UsageError
from modelkit.recipe import TrainingOptions
from modelkit.training.batches import Batch, Batches, LearningTask
from modelkit.training.checkpoint import ResumeFile
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.objective import LEAST, LabelLoss, Objective
from modelkit.training.optimizers import hold_still, optimizers_of, running_average, set_rates
from modelkit.training.precision import autocast, dtype_of, scaler_of
from modelkit.training.processes import Processes, alone


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
    """What training calls: `step` with (done, of all); `epoch` with the averaged network as it stands, in the
    main process alone.

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


@dataclass(frozen=True)
class _Loop:
    """What one step needs."""

    network: MultiTaskEncoder
    objective: Objective
    optimizers: Sequence[Optimizer]
    scaler: torch.amp.GradScaler
    dtype: torch.dtype | None  # of autocast
    processes: Processes
    options: TrainingOptions
    loss_weights: Sequence[float]  # of the tasks

    def parameters(self, *, sparse: bool) -> list[nn.Parameter]:
        """Those that train, and whose gradients are sparse, or not."""
        return [
            parameter
            for optimizer in self.optimizers
            if isinstance(optimizer, SparseAdam) == sparse
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]


def train(
    network: MultiTaskEncoder,
    data: TrainingData,
    options: TrainingOptions,
    hooks: Hooks,
    resume: ResumeFile | None = None,
    processes: Processes | None = None,
    objective: Objective | None = None,
) -> MultiTaskEncoder:
    """Train `network` in place and return the average of its weights, in evaluation mode, on the CPU.

    What is learnt is `objective`, else the labels alone; weights of its own are trained along.

    With `resume`, the state after each epoch is kept there, and training goes on from it where it is of the
    same training; the result is that of a training without a break. With several `processes`, each calls this
    with the same arguments, and has the same result.

    Raises UsageError where more layers are to be frozen than there are, on a device or precision that is
    not to be had, and where weights grow out of all bounds.
    """
    processes = processes or alone(options.device)
    dtype = dtype_of(options.precision, processes.device)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    hold_still(network, options)
    if processes.rank:  # the same weights as the main process's, and a dropout of its own
        torch.manual_seed(options.seed + processes.rank)
    network.to(processes.device)
    share = (processes.rank, processes.count)
    batches = [Batches(task, data.tokenizer, options.batch_size, options.seed, share) for task in data.tasks]
    steps_per_epoch = -(-max(each.in_a_pass for each in batches) // options.accumulate)
    steps = steps_per_epoch * options.epochs
    objective = (objective or LabelLoss(data.tasks, options.label_smoothing)).to(processes.device)
    optimizers = optimizers_of(network, objective, options)
    loop = _Loop(
        network=network,
        objective=objective,
        optimizers=optimizers,
        scaler=scaler_of(processes.device, dtype),
        dtype=dtype,
        processes=processes,
        options=options,
        loss_weights=[each.loss_weight for each in data.tasks],
    )
    averaged = AveragedModel(network, avg_fn=running_average(options.average_decay))
    parts = [network, averaged, objective, *optimizers, loop.scaler]
    state = _resumed(resume, parts, processes)
    hooks.step(state.epoch * steps_per_epoch, steps)
    streams = [each.starting_at(state.epoch * steps_per_epoch * options.accumulate) for each in batches]
    network.train()
    while state.epoch < options.epochs and not _is_stale(state, options):
        state.epoch += 1
        losses = torch.zeros(len(streams), device=processes.device)
        for step in range(1, steps_per_epoch + 1):
            done = (state.epoch - 1) * steps_per_epoch + step
            set_rates(optimizers, done - 1, steps, options.warmup)
            losses += _step(loop, streams)
            if done % options.average_every == 0 or step == steps_per_epoch:
                averaged.update_parameters(network)
            hooks.step(done, steps)
        _refuse_divergence(network, state.epoch)
        averaged.module.eval()
        means = tuple((processes.total(losses) / steps_per_epoch).tolist())
        score = None
        if processes.is_main:
            score = hooks.epoch(Progress(state.epoch, options.epochs, means), averaged.module)
        _judge(state, processes.from_main(score), averaged.module)
        if resume is not None:
            _save(resume, state, parts, processes)
    if state.best_weights is not None:
        averaged.module.load_state_dict(state.best_weights)
    result: MultiTaskEncoder = averaged.module.cpu().eval()
    if options.lora_rank is not None:
        from modelkit.training.lora import merge_adapters

        merge_adapters(result)
    return result


def _step(loop: _Loop, streams: Sequence[Iterator[Batch]]) -> torch.Tensor:
    """One optimisation step on all tasks' gradients; returns this process's part of the losses."""
    for optimizer in loop.optimizers:
        optimizer.zero_grad(set_to_none=True)
    device, objective = loop.processes.device, loop.objective
    batches = [[next(stream).to(device) for stream in streams] for _ in range(loop.options.accumulate)]
    weights = torch.stack(
        [torch.stack([objective.weight(head, one) for head, one in enumerate(each)]) for each in batches]
    )
    shares = weights / loop.processes.total(weights.sum(dim=0)).clamp(min=LEAST)
    losses = torch.zeros(len(streams), device=device)
    for batches_at_once, share in zip(batches, shares, strict=True):
        for head, batch in enumerate(batches_at_once):
            if not len(batch.ids):
                continue
            loss = share[head] * objective(loop.network, head, batch, lambda: autocast(device, loop.dtype))
            loop.scaler.scale(loop.loss_weights[head] * loss).backward()
            losses[head] += loss.detach()
    dense = loop.parameters(sparse=False)
    loop.processes.sum_gradients(dense, loop.parameters(sparse=True))
    for optimizer in loop.optimizers:
        loop.scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(dense, 1.0)
    for optimizer in loop.optimizers:
        loop.scaler.step(optimizer)
    loop.scaler.update()
    return losses


def _refuse_divergence(network: MultiTaskEncoder, epoch: int) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise UsageError(
            f"encoder-rate, head-rate: weights grew out of all bounds in epoch {epoch}; allowed: lower rates"
        )


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


def _save(resume: ResumeFile, state: _State, parts: Sequence[Any], processes: Processes) -> None:
    generators = processes.of_all(_generators(processes.device))
    if processes.is_main:
        snapshot = {
            "state": dict(vars(state)),
            "parts": [part.state_dict() for part in parts],
            "generators": generators,
        }
        resume.save(snapshot)


def _resumed(resume: ResumeFile | None, parts: Sequence[Any], processes: Processes) -> _State:
    """Raises UsageError where the file can't be read, or is not the same to all processes."""
    snapshot = None if resume is None else resume.load()
    epochs = processes.of_all(None if snapshot is None else snapshot["state"]["epoch"])
    if len(set(epochs)) > 1:
        raise UsageError("out: not the same to all processes; allowed: a disk that all of them share")
    if snapshot is None:
        return _State()
    for part, saved in zip(parts, snapshot["parts"], strict=True):
        part.load_state_dict(saved)
    cpu, card = snapshot["generators"][processes.rank]
    torch.set_rng_state(cpu)
    if card is not None:
        torch.cuda.set_rng_state(card, processes.device)
    return _State(**snapshot["state"])


def _generators(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    card = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), card
