"""How much each attention head and feed-forward unit matters to the answers, to rank them within a layer.

    fisher   how far the loss moves when a gate on its output does: the mean over texts of that gradient's
             square, the diagonal of the Fisher information of the gates (Kwon et al., "A fast post-training
             pruning framework for transformers", NeurIPS 2022; for heads akin to Michel et al., "Are sixteen
             heads really better than one?", NeurIPS 2019). Needs labelled texts
    l1       the absolute weights that make it and that read it, summed (Li et al., "Pruning filters for
             efficient convnets", ICLR 2017). Needs nothing

Owns gates and scores. Called by `sensitivity` and `prune`. Needs torch (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from modelkit.training.batches import IGNORED, Batch
from modelkit.training.lean_encoder import factors, layers_of, shape_of
from modelkit.training.network import MultiTaskEncoder

Gates = Sequence[torch.Tensor | None]  # of each layer; [pieces], or [texts, pieces]


@dataclass(frozen=True)
class Importance:
    """Of each layer's heads [heads] and feed-forward units [width]; only their order means anything."""

    heads: Sequence[torch.Tensor]
    units: Sequence[torch.Tensor]


@contextmanager
def gated(network: MultiTaskEncoder, heads: Gates, units: Gates) -> Iterator[None]:
    """Within it, what heads and units give is multiplied by those gates; None: all stay as they are."""
    handles = []
    for layer, of_heads, of_units in zip(layers_of(network.encoder), heads, units, strict=True):
        for module, gate in ((layer.attention.output.dense, of_heads), (layer.output.dense, of_units)):
            if gate is not None:
                handles.append(module.register_forward_pre_hook(_multiplied(gate)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fisher(network: MultiTaskEncoder, batches: Sequence[Sequence[Batch]]) -> Importance:
    """From some batches for each of the network's heads.

    Each task's scores are brought to a mean of 1 before they are added: a task whose loss is small would
    have no say otherwise.
    """
    shapes = [shape_of(layer, network.encoder.config) for layer in layers_of(network.encoder)]
    total = [
        [torch.zeros(shape.heads) for shape in shapes],
        [torch.zeros(shape.width) for shape in shapes],
    ]
    for head, of_task in enumerate(batches):
        sums = [[torch.zeros_like(one) for one in kind] for kind in total]
        for batch in of_task:
            texts = len(batch.ids)
            gates = [[torch.ones(texts, len(one), requires_grad=True) for one in kind] for kind in total]
            with gated(network, *gates):
                states = network.hidden(batch.ids, batch.mask)
                loss = _losses(network.logits(head, states, batch.mask), batch.targets).sum()
            flat = [gate for kind in gates for gate in kind]
            gradients = iter(torch.autograd.grad(loss, flat))
            for kind in sums:
                for one in kind:
                    one += (next(gradients) ** 2).sum(dim=0)
        for kind, of_all in zip(sums, total, strict=True):
            mean = torch.cat(kind).mean().clamp(min=torch.finfo(torch.float32).tiny)
            for one, into in zip(kind, of_all, strict=True):
                into += one / mean
    return Importance(*total)


def l1(network: MultiTaskEncoder) -> Importance:
    """From the weights alone."""
    heads, units = [], []
    for layer in layers_of(network.encoder):
        attention = layer.attention
        count = shape_of(layer, network.encoder.config).heads
        made = sum(
            _outputs(getattr(attention.self, name).weight) for name in ("query", "key", "value")
        ) + _inputs(attention.output.dense.weight)
        heads.append(made.view(count, -1).sum(dim=1))
        units.append(
            _outputs(factors(layer.intermediate.dense)[-1].weight)
            + _inputs(factors(layer.output.dense)[0].weight)
        )
    return Importance(heads, units)


def least(importance: torch.Tensor, count: int) -> list[int]:
    """The `count` pieces that matter least."""
    order: list[int] = importance.argsort(stable=True).tolist()
    return order[:count]


def gate_without(pieces: int, removed: Sequence[int]) -> torch.Tensor:
    """[pieces], 0 for the removed and 1 for the others."""
    gate = torch.ones(pieces)
    gate[list(removed)] = 0.0
    return gate


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[texts]: cross entropy of each, the mean over its tokens where they are what is tagged."""
    if targets.ndim == 1:
        return cross_entropy(logits, targets, reduction="none")
    losses = cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
    return losses.sum(dim=1) / (targets != IGNORED).sum(dim=1).clamp(min=1)


def _multiplied(gate: torch.Tensor) -> Callable[[Any, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]:
    def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        [values] = inputs
        size = values.shape[-1] // gate.shape[-1]
        wide = gate.repeat_interleave(size, dim=-1)
        return (values * (wide if gate.ndim == 1 else wide[:, None]),)

    return hook


def _outputs(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().abs().sum(dim=1)


def _inputs(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().abs().sum(dim=0)
