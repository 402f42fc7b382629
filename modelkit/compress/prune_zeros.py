"""Sets the smallest weights of the encoder's matrices to zero, and keeps them there while training goes on.

Global magnitude pruning: the least absolute values of all matrices together go (Han et al., "Learning both
weights and connections for efficient neural networks", NeurIPS 2015), by `torch.nn.utils.prune`. The file
stays as large and dense kernels as slow: what it is good for is a runtime with sparse kernels.

Embeddings, norms, biases and heads stay whole. Called by `prune` and `sensitivity`. Needs torch (the `train`
extra).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from modelkit.compress.lowrank import MATRICES
from modelkit.training.lean_encoder import factors, layers_of
from modelkit.training.network import MultiTaskEncoder

_ATTENTION = ("query", "key", "value")


def matrices(network: MultiTaskEncoder) -> Iterator[tuple[int, str, nn.Linear]]:
    """(layer, name, matrix) of all that the encoder multiplies by; two of a name where it is two factors."""
    for number, layer in enumerate(layers_of(network.encoder)):
        attention: Any = layer.attention
        for name in _ATTENTION:
            yield number, f"attention.{name}", getattr(attention.self, name)
        yield number, "attention.out", attention.output.dense
        for name, attribute in MATRICES.items():
            for matrix in factors(getattr(layer, attribute).dense):
                yield number, name, matrix


def zero_smallest(network: MultiTaskEncoder, share: float) -> None:
    """That share of the matrices' weights, the least by absolute value, becomes zero, in place."""
    pruned = [(matrix, "weight") for _, _, matrix in matrices(network)]
    prune.global_unstructured(pruned, pruning_method=prune.L1Unstructured, amount=share)
    for matrix, name in pruned:
        prune.remove(matrix, name)


def hold_zeros(network: MultiTaskEncoder) -> None:
    """What is zero in the matrices now stays so in training.

    Its gradients are zero, so AdamW's moments are, and its decay of zero is zero.
    """
    for _, _, matrix in matrices(network):
        mask = (matrix.weight.detach() != 0).to(matrix.weight.dtype)
        matrix.weight.register_hook(_masked(mask))


def zero_share(network: MultiTaskEncoder) -> float:
    """The share of the matrices' weights that are zero."""
    zeros = total = 0
    for _, _, matrix in matrices(network):
        zeros += int((matrix.weight == 0).sum())
        total += int(matrix.weight.numel())
    return zeros / total


def _masked(mask: torch.Tensor) -> Any:
    return lambda gradient: gradient * mask
