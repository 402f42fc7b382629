"""Takes attention heads and feed-forward units out of an encoder: its matrices really shrink.

Owns the surgery. Leaves which ones go to `prune_importance` and `prune_plan`. Called by `prune`. Needs torch
(the `train` extra).

What remains computes the same as before with the removed heads' outputs and units set to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modelkit.training.lean_encoder import factors, head_size, layers_of, record_shapes
from modelkit.training.network import MultiTaskEncoder


def keep_heads(network: MultiTaskEncoder, kept: Sequence[Sequence[int]]) -> None:
    """Of each layer, only those heads, in place."""
    size = head_size(network.encoder.config)
    for layer, heads in zip(layers_of(network.encoder), kept, strict=True):
        rows = [head * size + number for head in sorted(heads) for number in range(size)]
        attention: Any = layer.attention
        for name in ("query", "key", "value"):
            setattr(attention.self, name, _with_outputs(getattr(attention.self, name), rows))
        attention.output.dense = _with_inputs(attention.output.dense, rows)
        attention.self.num_attention_heads, attention.self.all_head_size = len(heads), len(rows)
    record_shapes(network.encoder)


def keep_units(network: MultiTaskEncoder, kept: Sequence[Sequence[int]]) -> None:
    """Of each layer's feed-forward part, only those units, in place."""
    for layer, units in zip(layers_of(network.encoder), kept, strict=True):
        chosen = sorted(units)
        into, out = factors(layer.intermediate.dense), factors(layer.output.dense)
        layer.intermediate.dense = _joined([*into[:-1], _with_outputs(into[-1], chosen)])
        layer.output.dense = _joined([_with_inputs(out[0], chosen), *out[1:]])
    record_shapes(network.encoder)


def _joined(parts: Sequence[nn.Linear]) -> nn.Module:
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _with_outputs(linear: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    return _linear(linear.weight[list(rows)], None if linear.bias is None else linear.bias[list(rows)])


def _with_inputs(linear: nn.Linear, columns: Sequence[int]) -> nn.Linear:
    return _linear(linear.weight[:, list(columns)], linear.bias)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    new = nn.Linear(inputs, outputs, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        new.weight.copy_(weight)
        if bias is not None:
            new.bias.copy_(bias)
    return new
