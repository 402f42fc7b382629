"""What training makes smaller: the loss of one batch.

Owns the loss on labels. Leaves what is learnt from a teacher to `distil_loss`, the steps to `train`. Needs
torch (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from modelkit.training.batches import Batch, LearningTask
from modelkit.training.network import MultiTaskEncoder


class Objective(nn.Module):
    """The loss of a batch of the learning task with that number. Parameters of its own are trained along."""

    def forward(self, network: MultiTaskEncoder, number: int, batch: Batch) -> torch.Tensor:
        """A scalar to go down on."""
        raise NotImplementedError


class LabelLoss(Objective):
    """Cross entropy with the labels; the encoder computes in bfloat16, heads and losses in float32."""

    def __init__(self, tasks: Sequence[LearningTask], smoothing: float) -> None:
        super().__init__()
        self._weights = [None if task.weights is None else torch.tensor(task.weights) for task in tasks]
        self._smoothing = smoothing

    def forward(self, network: MultiTaskEncoder, number: int, batch: Batch) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = network.hidden(batch.ids, batch.mask)
        return self.of(network.logits(number, states, batch.mask), number, batch)

    def of(self, logits: torch.Tensor, number: int, batch: Batch) -> torch.Tensor:
        """Of logits that are there already."""
        return cross_entropy(
            logits.flatten(0, -2),
            batch.targets.flatten(),
            weight=self._weights[number],
            label_smoothing=self._smoothing,
        )
