"""What training makes smaller: the loss of one batch.

Owns the loss on labels. Leaves what is learnt from a teacher to `distil_loss`, the steps to `train`. Needs
torch (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from modelkit.training.batches import IGNORED, Batch, LearningTask
from modelkit.training.network import MultiTaskEncoder

Autocast = Callable[[], AbstractContextManager[object]]
LEAST = 1e-12  # of a weight that is divided by


class Objective(nn.Module):
    """The loss of a batch of the learning task with that number. Parameters of its own are trained along."""

    def weight(self, number: int, batch: Batch) -> torch.Tensor:
        """What the batch counts for among the task's batches of a step, a scalar."""
        raise NotImplementedError

    def forward(
        self, network: MultiTaskEncoder, number: int, batch: Batch, autocast: Autocast
    ) -> torch.Tensor:
        """A scalar to go down on, a mean over what the weight counts; encoders run within `autocast()`."""
        raise NotImplementedError


class LabelLoss(Objective):
    """Cross entropy with the labels, weighted by theirs; heads and losses are float32."""

    def __init__(self, tasks: Sequence[LearningTask], smoothing: float) -> None:
        super().__init__()
        self._weights = [None if task.weights is None else torch.tensor(task.weights) for task in tasks]
        self._smoothing = smoothing

    def weight(self, number: int, batch: Batch) -> torch.Tensor:
        """The targets' own weights together: one each, or their labels'."""
        kept = batch.targets[batch.targets != IGNORED]
        weights = self._weights_of(number, batch.targets.device)
        if weights is None:
            return torch.tensor(float(len(kept)), device=batch.targets.device)
        return weights[kept].sum()

    def forward(
        self, network: MultiTaskEncoder, number: int, batch: Batch, autocast: Autocast
    ) -> torch.Tensor:
        with autocast():
            states = network.hidden(batch.ids, batch.mask)
        return self.of(network.logits(number, states, batch.mask), number, batch)

    def of(self, logits: torch.Tensor, number: int, batch: Batch) -> torch.Tensor:
        """Of logits that are there already; 0 where there is no target, as of a sentence cut to nothing."""
        summed = cross_entropy(
            logits.flatten(0, -2),
            batch.targets.flatten(),
            weight=self._weights_of(number, logits.device),
            label_smoothing=self._smoothing,
            reduction="sum",
        )
        return summed / self.weight(number, batch).clamp(min=LEAST)

    def _weights_of(self, number: int, device: torch.device) -> torch.Tensor | None:
        weights = self._weights[number]
        return None if weights is None else weights.to(device)
