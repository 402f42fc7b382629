"""Puts two thin matrices in the place of a feed-forward matrix: its truncated singular value decomposition.

Of all matrices of a rank, that one is nearest to the whole by the sum of squared differences (Eckart and
Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936). A matrix stays whole
where its two factors would hold as many numbers as itself, or more.

Owns the factors and their rank. Called by `prune` and `sensitivity`. Needs torch (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelkit.training.lean_encoder import factors, layers_of, new_factors, record_shapes, whole
from modelkit.training.network import MultiTaskEncoder

MATRICES = {"ffn.in": "intermediate", "ffn.out": "output"}  # a layer's two, and where they are


@dataclass(frozen=True)
class RankChoice:
    """One rank for all, or the least that keeps that share of a matrix' squared singular values."""

    rank: int | None = None
    energy: float | None = None

    def of(self, singular_values: torch.Tensor) -> int:
        """For a matrix with those singular values, the largest first."""
        if self.rank is not None:
            return min(self.rank, len(singular_values))
        kept = (singular_values.double() ** 2).cumsum(0)
        # The last sum and its product with an energy of 1 are the same number: one is always found.
        return int((kept >= kept[-1] * (self.energy or 1.0)).nonzero()[0, 0]) + 1


def chosen_ranks(network: MultiTaskEncoder, choice: RankChoice) -> dict[tuple[int, str], int]:
    """(layer, matrix) -> its rank, of those that get smaller by it."""
    ranks = {}
    for layer, name, block in _blocks(network):
        matrix = whole(block.dense).weight.detach()
        rank = choice.of(torch.linalg.svdvals(matrix))
        if rank * sum(matrix.shape) < sum(part.weight.numel() for part in factors(block.dense)):
            ranks[layer, name] = rank
    return ranks


def factorise(network: MultiTaskEncoder, ranks: Mapping[tuple[int, str], int]) -> None:
    """Put factors of those ranks in place of those matrices."""
    for layer, name, block in _blocks(network):
        if (layer, name) in ranks:
            block.dense = factorised(block.dense, ranks[layer, name])
    record_shapes(network.encoder)


def factorised(projection: nn.Module, rank: int) -> nn.Sequential:
    """`projection`'s nearest of that rank; each factor takes half of a singular value, so that both are of
    one scale when they are trained on."""
    left, values, right = torch.linalg.svd(whole(projection).weight.detach(), full_matrices=False)
    root = values[:rank].sqrt()
    last = factors(projection)[-1]
    new = new_factors(right.shape[1], left.shape[0], rank, last)
    with torch.no_grad():
        new[0].weight.copy_(root[:, None] * right[:rank])
        new[1].weight.copy_(left[:, :rank] * root)
        new[1].bias.copy_(last.bias)
    return new


def _blocks(network: MultiTaskEncoder) -> Iterator[tuple[int, str, Any]]:
    for number, layer in enumerate(layers_of(network.encoder)):
        for name, attribute in MATRICES.items():
            yield number, name, getattr(layer, attribute)
