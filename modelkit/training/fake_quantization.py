"""Linear layers that compute as a quantization scheme will, while their weights stay float32 and learn.

Owns the rounding, the same as each scheme's own (tests compare them number by number), and the gradient that
passes through it as if it were not there (the straight-through estimator of Bengio, Léonard and Courville,
2013, arXiv:1308.3432). Leaves training to `quantization_aware`. Called by `quantization_aware`. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from minwatt.v1.errors import UsageError
from modelkit.compress.catalogue import CATALOGUE
from modelkit.compress.quantize import (
    CODE_LIMIT,
    HIGHEST,
    PAIR_LIMIT,
    SMALLEST_STEP,
    ZERO,
    ZERO_OF_GELU,
)
from modelkit.compress.schemes import BLOCKS
from modelkit.inference import Ids
from modelkit.training.network import MultiTaskEncoder

SEVEN_BITS = 64  # largest code of a weight under the stock quantizer's reduced range
# What follows the activation, within a layer, and its first factor; not the one of the attention.
_OF_GELU = ("output.dense", "output.dense.0")
_OF_ATTENTION = "attention.output.dense"

Tensors = Callable[[torch.Tensor], torch.Tensor]


class RoundedLinear(nn.Linear):
    """A linear layer whose weights and inputs go through a scheme's rounding first."""

    weights: Tensors
    inputs: Tensors

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        values = _straight_through(input.float(), self.inputs)
        return nn.functional.linear(values, _straight_through(self.weight, self.weights), self.bias)


def add_rounding(network: MultiTaskEncoder, scheme: str, batches: Sequence[tuple[Ids, Ids]]) -> None:
    """Let the encoder's linear layers, in place, compute as by `scheme`; static scales come from `batches`.

    Raises UsageError on a scheme that has no such rounding.
    """
    if not CATALOGUE[scheme].trainable:
        able = ", ".join(name for name, one in CATALOGUE.items() if one.trainable)
        raise UsageError(f"qat: scheme {scheme!r} can't be trained for; allowed: {able}")
    ranges = _ranges(network, batches) if scheme == "static_minmax" else {}
    for name, layer in _linear_layers(network):
        after_gelu = name.endswith(_OF_GELU) and not name.endswith(_OF_ATTENTION)
        layer.__class__ = RoundedLinear
        if scheme == "per_token":
            layer.weights = paired_weights
            layer.inputs = rows_after_gelu if after_gelu else rows
        elif scheme == "static_minmax":
            layer.weights = seven_bit_weights
            layer.inputs = Static(*ranges[name])
        else:
            layer.weights = BlockWeights(bits=4 if scheme == "weight_int4" else 8)
            layer.inputs = unchanged


def remove_rounding(network: MultiTaskEncoder) -> None:
    """Leave plain linear layers, with the weights as they are: in float32, and used to the rounding."""
    for _, layer in _linear_layers(network):
        if isinstance(layer, RoundedLinear):
            del layer.weights, layer.inputs
            layer.__class__ = nn.Linear


def paired_weights(weights: torch.Tensor) -> torch.Tensor:
    """`compress.quantize.quantize_weights` of [out, in], scaled back."""
    size = weights.abs()
    none = size.new_zeros(len(size), 1)  # of a single column
    pairs = torch.cat([none, size[:, :-1] + size[:, 1:]], dim=1).amax(dim=1, keepdim=True)
    scales = torch.maximum(size.amax(dim=1, keepdim=True) / CODE_LIMIT, pairs / (PAIR_LIMIT - 1))
    scales = scales.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.round(weights / scales) * scales


def seven_bit_weights(weights: torch.Tensor) -> torch.Tensor:
    """The stock quantizer's symmetric codes of a reduced range, a scale per output."""
    scales = (weights.abs().amax(dim=1, keepdim=True) / SEVEN_BITS).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.clamp(torch.round(weights / scales), -SEVEN_BITS, SEVEN_BITS) * scales


@dataclass(frozen=True)
class BlockWeights:
    """The stock quantizer's symmetric codes in blocks of a column: the weight that is largest in magnitude
    gets the lowest code, whatever its sign."""

    bits: int

    def __call__(self, weights: torch.Tensor) -> torch.Tensor:
        """[out, in], scaled back."""
        size, half = BLOCKS[self.bits], 2 ** (self.bits - 1)
        blocks = nn.functional.pad(weights, (0, -weights.shape[1] % size)).unflatten(1, (-1, size))
        largest = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))
        scales = largest / -half
        codes = torch.round(blocks / torch.where(scales == 0, torch.ones_like(scales), scales))
        return (codes.clamp(-half, half - 1) * scales).flatten(1)[:, : weights.shape[1]]


def rows(values: torch.Tensor, zero: int = ZERO) -> torch.Tensor:
    """uint8 codes with a scale for each row, as `compress.quantize.per_token` computes them, scaled back."""
    above = values.amax(dim=-1, keepdim=True) / (HIGHEST - zero)
    below = -values.amin(dim=-1, keepdim=True) / zero
    scales = torch.maximum(above, below).clamp(min=SMALLEST_STEP)
    return (torch.clamp(torch.round(values / scales) + zero, 0, HIGHEST) - zero) * scales


def rows_after_gelu(values: torch.Tensor) -> torch.Tensor:
    """The same with most codes on the positive side."""
    return rows(values, ZERO_OF_GELU)


@dataclass(frozen=True)
class Static:
    """uint8 codes of one range that was found beforehand."""

    lowest: float
    highest: float

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        scale = max((max(self.highest, 0.0) - min(self.lowest, 0.0)) / HIGHEST, SMALLEST_STEP)
        zero = round(-min(self.lowest, 0.0) / scale)
        return (torch.clamp(torch.round(values / scale) + zero, 0, HIGHEST) - zero) * scale


def unchanged(values: torch.Tensor) -> torch.Tensor:
    """Weight-only schemes leave activations to the kernel."""
    return values


def _straight_through(values: torch.Tensor, rounded: Tensors) -> torch.Tensor:
    """Rounded on the way forward, as if it were not on the way back."""
    if rounded is unchanged:
        return values
    with torch.no_grad():
        step = rounded(values.detach()) - values.detach()
    return values + step


def _linear_layers(network: MultiTaskEncoder) -> Iterator[tuple[str, nn.Linear]]:
    """Those whose products the schemes quantize: of the encoder's layers, not the heads."""
    for name, module in network.encoder.encoder.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module


def _ranges(network: MultiTaskEncoder, batches: Sequence[tuple[Ids, Ids]]) -> dict[str, tuple[float, float]]:
    """The lowest and highest input of each linear layer."""
    found: dict[str, tuple[float, float]] = {}
    with _watched(network, found), torch.inference_mode():
        for ids, mask in batches:
            network.hidden(torch.from_numpy(ids), torch.from_numpy(mask))
    return found


@contextmanager
def _watched(network: MultiTaskEncoder, found: dict[str, tuple[float, float]]) -> Iterator[None]:
    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def see(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            lowest, highest = inputs[0].min().item(), inputs[0].max().item()
            before = found.get(name, (lowest, highest))
            found[name] = (min(before[0], lowest), max(before[1], highest))

        return see

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in _linear_layers(network)]
    network.eval()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
