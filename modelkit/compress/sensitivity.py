"""What dev loses when one part of one layer alone is pruned: the scan that a plan follows from.

Owns the scan. Leaves scores to `dev_set`, what is least important to `prune_importance`, the plan to
`prune_plan`. Called by `prune`. Needs torch (the `train` extra).

Heads and units are not taken out but multiplied by zero, which gives the same answers; the network is as it
was afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils import prune

from modelkit.compress.dev_set import DevSet, Quality
from modelkit.compress.lowrank import MATRICES, RankChoice, chosen_ranks, factorised
from modelkit.compress.prune_importance import Importance, gate_without, gated, least
from modelkit.compress.prune_options import MOST, PruneOptions
from modelkit.compress.prune_plan import scanned_counts
from modelkit.compress.prune_report import Sensitivity
from modelkit.compress.prune_zeros import matrices
from modelkit.training.lean_encoder import LayerShape, layers_of, shape_of, whole
from modelkit.training.network import MultiTaskEncoder

WIDTH_STEP = 16  # feed-forward units go in such steps: what a vector register of 512 bits holds
SHARES = (0.25, 0.5, MOST)  # of a layer's heads and units
ZERO_SHARES = (0.5, 0.75, 0.9)  # of a matrix' weights

Advance = Callable[[int, int], None]
_Trial = tuple[str, int, int, float, Any]  # part, layer, pieces, share, and what prunes it meanwhile


def scan(
    network: MultiTaskEncoder, dev: DevSet, importance: Importance, options: PruneOptions, advance: Advance
) -> tuple[Sensitivity, ...]:
    """Try all that the options ask for, layer by layer; `advance` hears (tried, of all)."""
    unpruned = dev.quality(network)
    trials = list(_trials(network, importance, options))
    found = []
    for number, (part, layer, pieces, share, pruned) in enumerate(trials, start=1):
        with pruned:
            found.append(_compared(part, layer, pieces, share, dev.quality(network), unpruned))
        advance(number, len(trials))
    return tuple(found)


def curves(found: Sequence[Sensitivity], part: str, layers: int) -> list[Mapping[int, float]]:
    """Of each layer, pieces gone -> rise of the loss."""
    return [
        {one.pieces: one.loss_rise for one in found if one.part == part and one.layer == layer}
        for layer in range(layers)
    ]


def width_steps(shape: LayerShape) -> int:
    """How many steps of units a layer has that may go; what is over stays."""
    return shape.width // WIDTH_STEP


def _trials(network: MultiTaskEncoder, importance: Importance, options: PruneOptions) -> Iterator[_Trial]:
    shapes = [shape_of(layer, network.encoder.config) for layer in layers_of(network.encoder)]
    for layer, shape in enumerate(shapes):
        if options.heads:
            for count in scanned_counts(shape.heads, SHARES):
                gone = least(importance.heads[layer], count)
                gate = gate_without(shape.heads, gone)
                yield "heads", layer, count, count / shape.heads, _one_gate(network, layer, heads=gate)
        if options.width:
            for steps in scanned_counts(width_steps(shape), SHARES):
                gone = least(importance.units[layer], steps * WIDTH_STEP)
                gate = gate_without(shape.width, gone)
                yield "width", layer, steps, len(gone) / shape.width, _one_gate(network, layer, units=gate)
    if options.is_low_rank:
        for (layer, name), rank in chosen_ranks(network, RankChoice(options.rank, options.energy)).items():
            block = getattr(list(layers_of(network.encoder))[layer], MATRICES[name])
            outputs, inputs = whole(block.dense).weight.shape
            share = 1 - rank * (outputs + inputs) / (outputs * inputs)
            yield f"rank {name}", layer, rank, share, _swapped(block, rank)
    if options.zeros:
        for layer, name, matrix in matrices(network):
            for share in ZERO_SHARES:
                count = round(share * matrix.weight.numel())
                yield f"zeros {name}", layer, count, share, _some_zeros(matrix, count)


def _compared(
    part: str, layer: int, pieces: int, share: float, quality: Quality, unpruned: Quality
) -> Sensitivity:
    return Sensitivity(
        part=part,
        layer=layer,
        pieces=pieces,
        share=share,
        score_lost=unpruned.mean_score - quality.mean_score,
        loss_rise=quality.loss - unpruned.loss,
    )


def _one_gate(
    network: MultiTaskEncoder,
    layer: int,
    heads: torch.Tensor | None = None,
    units: torch.Tensor | None = None,
) -> Any:
    layers = range(len(list(layers_of(network.encoder))))
    return gated(
        network,
        [heads if number == layer else None for number in layers],
        [units if number == layer else None for number in layers],
    )


@contextmanager
def _swapped(block: Any, rank: int) -> Iterator[None]:
    before = block.dense
    block.dense = factorised(before, rank)
    try:
        yield
    finally:
        block.dense = before


@contextmanager
def _some_zeros(matrix: torch.nn.Linear, count: int) -> Iterator[None]:
    before = matrix.weight.detach().clone()
    prune.l1_unstructured(matrix, "weight", amount=count)
    prune.remove(matrix, "weight")
    try:
        yield
    finally:
        with torch.no_grad():
            matrix.weight.copy_(before)
