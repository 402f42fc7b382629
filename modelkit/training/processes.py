"""The processes that train together: which one this is, on what device, and what they exchange.

They are started by `torchrun` or `accelerate launch`, which name themselves in the environment; without one
there is a process alone, and nothing is exchanged. Gradients are summed once a step, when those of all
tasks and batches have gathered. `DistributedDataParallel` sums within each backward pass: of a step's
several passes it would want to know the last, it waits for a process that has no text left, and NCCL sums
no sparse gradients.

Owns accelerate and torch.distributed. Called by `finetune` and `train`. Needs torch (the `train` extra).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import nn

from minwatt.v1.errors import UsageError
from modelkit.recipe import DEVICES

T = TypeVar("T")
# The others wait while the main process scores a large dev split or writes to a slow disk.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process, from 0 to `count` - 1, and its device. Where it is alone, every exchange is for
    nothing.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def sum_gradients(self, dense: Sequence[nn.Parameter], sparse: Sequence[nn.Parameter]) -> None:
        """Each parameter's gradient becomes the sum of all processes', bit by bit the same in each.

        A parameter without a gradient, of a process without a text in this step, has one of zeros. Those of
        `sparse` parameters are sparse.
        """
        if self.count == 1:
            return
        for parameter in sparse:
            parameter.grad = self._summed_rows(parameter)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
        summed = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = summed.split([gradient.numel() for gradient in gradients])
        for parameter, part in zip(dense, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of all processes' tensors, of one shape."""
        if self.count == 1:
            return values
        from accelerate.utils import reduce

        summed: torch.Tensor = reduce(values, "sum")
        return summed

    def from_main(self, value: T) -> T:
        """The main process's value, in each; it is pickled."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        [shared] = broadcast_object_list([value])
        return shared  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Until all are here."""
        self.from_main(None)

    def of_all(self, value: T) -> list[T]:
        """Every process's value, in order, in each; they are pickled."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def _summed_rows(self, parameter: nn.Parameter) -> torch.Tensor:
        """A sparse gradient's rows of all processes. Each has as many of its own: they are padded to
        travel.
        """
        from accelerate.utils import gather, pad_across_processes

        gradient = parameter.grad
        if gradient is None:
            indices = torch.zeros(0, dtype=torch.long, device=parameter.device)
            values = torch.zeros(0, parameter.shape[1], device=parameter.device)
        else:
            gradient = gradient.coalesce()
            indices, values = gradient.indices()[0], gradient.values()
        counts = gather(torch.tensor([len(indices)], device=parameter.device)).tolist()
        longest = max(counts)
        all_indices = gather(pad_across_processes(indices)).split(longest)
        all_values = gather(pad_across_processes(values)).split(longest)
        kept = [(i[:n], v[:n]) for i, v, n in zip(all_indices, all_values, counts, strict=True)]
        rows = torch.cat([i for i, _ in kept]).unsqueeze(0)
        summed = torch.cat([v for _, v in kept])
        return torch.sparse_coo_tensor(rows, summed, parameter.shape, check_invariants=False).coalesce()


def alone(device: str = "auto") -> Processes:
    """This process without others. Raises UsageError where there is no such device."""
    return Processes(0, 1, device_of(device))


@contextmanager
def launched(device: str = "auto") -> Iterator[Processes]:
    """This process among those that a launcher started, each with a GPU of its own where there are any.

    Raises UsageError where there is no such device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield alone(device)
        return
    kind = device_of(device).type
    if device not in ("auto", kind):
        raise UsageError(
            f"device = {device!r}: several processes share them out; allowed: {', '.join(DEVICES)}"
        )
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu", timeout=_PATIENCE)
    try:
        yield Processes(state.process_index, state.num_processes, state.device)
    finally:
        state.destroy_process_group()


def device_of(asked: str) -> torch.device:
    """CUDA where there is a card and nothing else is asked for. Raises UsageError where there is none."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = asked.partition(":")
    if asked == "cpu":
        return torch.device(asked)
    if kind != "cuda" or (index and not index.isdecimal()):
        raise UsageError(f"device = {asked!r}: allowed: {', '.join(DEVICES)} or cuda:NUMBER")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= cards:
        raise UsageError(f"device = {asked!r}: torch finds {cards} cards here; cpu works anywhere")
    return torch.device(asked)
