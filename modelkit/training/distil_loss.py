"""What a student learns from: its teacher's logits and hidden states, and the labels.

Owns the distillation loss. Leaves steps to `train`, the student's shape to `student`. Called by `distil`.
Needs torch (the `train` extra).

The teacher answers each batch anew: training varies its texts, so that no answer could be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import kl_div, linear, log_softmax, mse_loss

from modelkit.recipe import DistilWeights
from modelkit.training.batches import Batch
from modelkit.training.network import MultiTaskEncoder
from modelkit.training.objective import Autocast, LabelLoss, Objective


class DistilLoss(Objective):
    """The weighted sum of three losses, each of which is a mean.

    - logits: the divergence of the student's from the teacher's answers, both at `temperature` and times its
      square, of a task's own head; of texts without labels, of every head (what a teacher says of another
      task's texts is noise, and louder than what it says of entities);
    - hidden: the mean squared difference of the hidden states behind the embeddings and each of the student's
      layers from those of the teacher's layer in its place, through a learnt projection if widths differ;
    - labels: cross entropy. Of unlabelled texts, which come after the tasks, there is none.
    """

    def __init__(
        self,
        teacher: MultiTaskEncoder,
        student: MultiTaskEncoder,
        layers: Sequence[int],
        weights: DistilWeights,
        labels: LabelLoss,
    ) -> None:
        super().__init__()
        self._teacher = (teacher.eval(),)  # in a tuple: not a part whose weights are trained and kept
        self._heads = [teacher.tasks.index(task) for task in student.tasks]
        self._places = [0, *(layer + 1 for layer in layers)]  # among the hidden states, the embeddings' first
        self._weights = weights
        self._labels = labels
        self._labelled = len(student.tasks)
        ours, theirs = student.encoder.config.hidden_size, teacher.encoder.config.hidden_size
        self.projection: nn.Linear | None = nn.Linear(ours, theirs, bias=False) if ours != theirs else None

    def weight(self, number: int, batch: Batch) -> torch.Tensor:
        """As the labels'; of unlabelled texts their number."""
        if number < self._labelled:
            return self._labels.weight(number, batch)
        return torch.tensor(float(len(batch.ids)), device=batch.ids.device)

    def forward(
        self, network: MultiTaskEncoder, number: int, batch: Batch, autocast: Autocast
    ) -> torch.Tensor:
        [teacher] = self._teacher
        with autocast():
            with torch.no_grad():
                theirs = teacher.states(batch.ids, batch.mask)
            ours = network.states(batch.ids, batch.mask)
        kept = batch.mask.bool()
        states = network.dropout(ours[-1].float())
        their_states = theirs[-1].float()
        loss = states.new_zeros(())
        if self._weights.logits:
            for head in [number] if number < self._labelled else range(len(self._heads)):
                logits = network.logits(head, states, batch.mask)
                target = teacher.logits(self._heads[head], their_states, batch.mask).detach()
                of_tokens = network.tasks[head].kind == "ner"
                loss = loss + self._weights.logits * self._divergence(
                    logits[kept] if of_tokens else logits, target[kept] if of_tokens else target
                )
        if self._weights.hidden:
            pairs = [(one, theirs[place]) for one, place in zip(ours, self._places, strict=True)]
            differences = [self._difference(one[kept].float(), other[kept].float()) for one, other in pairs]
            loss = loss + self._weights.hidden * torch.stack(differences).mean()
        if self._weights.labels and number < self._labelled:
            logits = network.logits(number, states, batch.mask)
            loss = loss + self._weights.labels * self._labels.of(logits, number, batch)
        return loss

    def _divergence(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        heat = self._weights.temperature
        one, other = log_softmax(ours / heat, dim=-1), log_softmax(theirs / heat, dim=-1)
        return kl_div(one, other, reduction="batchmean", log_target=True) * heat**2

    def _difference(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        if self.projection is not None:
            ours = linear(ours, self.projection.weight)
        return mse_loss(ours, theirs)
