"""Which weights train, by which optimizer, at what rate. Called by `train`. Needs torch (the `train`
extra).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.optim import Optimizer

from minwatt.v1.errors import UsageError
from modelkit.recipe import TrainingOptions
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.objective import Objective


def hold_still(network: MultiTaskEncoder, options: TrainingOptions) -> None:
    """Freeze the first layers with the embeddings below them; with adapters, all of the encoder but them.
    The vectors that tell capitals train always: they are as new as the heads.

    Raises UsageError where more layers are to be frozen than there are.
    """
    there = network.encoder.encoder.layer
    if options.frozen_layers > len(there):
        raise UsageError(f"frozen-layers = {options.frozen_layers}: the encoder has {len(there)} layers")
    if options.lora_rank is not None:
        if options.frozen_layers == len(there):
            raise UsageError(
                f"frozen-layers = {options.frozen_layers}: none is left for --lora-rank to adapt"
            )
        from modelkit.training.lora import add_adapters

        add_adapters(network, options.lora_rank, options.frozen_layers, options.dropout)
    elif options.frozen_layers:
        for part in (network.encoder.embeddings, *there[: options.frozen_layers]):
            part.requires_grad_(False)
    for vectors in network.forms_of_tokens():
        vectors.requires_grad_(True)


def optimizers_of(
    network: MultiTaskEncoder, objective: Objective, options: TrainingOptions
) -> list[Optimizer]:
    """Dense weights, the objective's own among them, by AdamW; word embeddings by SparseAdam, which touches
    a batch's rows only.

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
    optimizers: list[Optimizer] = [dense]
    if words.weight.requires_grad:
        optimizers.append(torch.optim.SparseAdam([words.weight], lr=options.embedding_rate))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["highest_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[Optimizer], step: int, steps: int, warmup: float) -> None:
    """Those of a step, from 0: linear rise over the first `warmup` of the steps, then linear fall to zero."""
    rise = max(1.0, warmup * steps)
    factor = min((step + 1) / rise, max(0.0, (steps - step) / max(1.0, steps - rise)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["highest_lr"]


def running_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]:
    """The mean of the first 1 / (1 - decay) weights, then an exponential average of that length."""

    def update(average: torch.Tensor, weights: torch.Tensor, updates: int) -> torch.Tensor:
        return average.lerp_(weights, max(1 - decay, 1 / (int(updates) + 1)))

    return update
