"""A BERT encoder whose layers need not be alike: heads, feed-forward width and low-rank factors of each.

Owns how `config.json` says so, under `layer_shapes`, and how such an encoder is built to be loaded. An
encoder without `layer_shapes` is the plain one. Leaves taking parts out to `compress.prune_structure` and
`compress.lowrank`. Called by them and by `network`. Needs torch and transformers (the `train` extra).

`transformers` has no such BERT: its `prune_heads` is gone, and one `intermediate_size` is for all layers. Its
plain `BertModel` refuses the weights of a pruned checkpoint by their sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import nn
from transformers import BertConfig, BertModel

SHAPES = "layer_shapes"  # of config.json


class LayerShape(BaseModel):
    """One layer. A rank is None where the feed-forward matrix is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: int = Field(ge=1)  # of the head size that the whole encoder has
    width: int = Field(ge=1)  # of the feed-forward part
    rank_in: int | None = Field(default=None, ge=1)  # hidden size × width
    rank_out: int | None = Field(default=None, ge=1)  # width × hidden size


_SHAPES = TypeAdapter(tuple[LayerShape, ...])


class LeanBert(BertModel):
    """`BertModel`, its layers shaped as `config.layer_shapes` says. Raises ValueError on shapes that it can't
    have."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        given = getattr(config, SHAPES, None)
        if given is None:
            return
        shapes = _SHAPES.validate_python(given)
        if len(shapes) != len(self.encoder.layer):
            raise ValueError(f"{SHAPES}: {len(shapes)} layers; the encoder has {len(self.encoder.layer)}")
        for layer, shape in zip(self.encoder.layer, shapes, strict=True):
            _shape_afresh(layer, shape, config)


def head_size(config: BertConfig) -> int:
    """The numbers of one head; the same in a pruned layer."""
    return int(config.hidden_size // config.num_attention_heads)


def layers_of(encoder: BertModel) -> Iterator[Any]:
    """The encoder's layers, from below."""
    yield from encoder.encoder.layer


def shape_of(layer: Any, config: BertConfig) -> LayerShape:
    """What the layer's matrices are."""
    into, out = layer.intermediate.dense, layer.output.dense
    return LayerShape(
        heads=layer.attention.self.query.out_features // head_size(config),
        width=_last(into).out_features,
        rank_in=_rank(into),
        rank_out=_rank(out),
    )


def record_shapes(encoder: BertModel) -> tuple[LayerShape, ...]:
    """Write into the encoder's config what its layers are, for its checkpoint; returns it."""
    shapes = tuple(shape_of(layer, encoder.config) for layer in layers_of(encoder))
    setattr(encoder.config, SHAPES, [shape.model_dump() for shape in shapes])
    return shapes


def factors(projection: nn.Module) -> Sequence[nn.Linear]:
    """The matrices that a projection applies one after the other: itself, or its two low-rank factors."""
    return list(projection) if isinstance(projection, nn.Sequential) else [projection]


def whole(projection: nn.Module) -> nn.Linear:
    """The one matrix that a projection comes to: itself, or its two factors multiplied out."""
    first, *rest = factors(projection)
    if not rest:
        return first
    [last] = rest
    joined = nn.Linear(first.in_features, last.out_features, device=last.weight.device)
    with torch.no_grad():
        joined.weight.copy_(last.weight @ first.weight)
        joined.bias.copy_(last.bias)
    return joined


def new_factors(inputs: int, outputs: int, rank: int, like: nn.Linear) -> nn.Sequential:
    """inputs → rank → outputs, the bias at the end, on `like`'s device."""
    place = {"device": like.weight.device, "dtype": like.weight.dtype}
    return nn.Sequential(nn.Linear(inputs, rank, bias=False, **place), nn.Linear(rank, outputs, **place))


def _shape_afresh(layer: Any, shape: LayerShape, config: BertConfig) -> None:
    attention, hidden, wide = layer.attention, config.hidden_size, shape.heads * head_size(config)
    for name in ("query", "key", "value"):
        setattr(attention.self, name, nn.Linear(hidden, wide))
    attention.self.num_attention_heads, attention.self.all_head_size = shape.heads, wide
    attention.output.dense = nn.Linear(wide, hidden)
    layer.intermediate.dense = _projection(hidden, shape.width, shape.rank_in)
    layer.output.dense = _projection(shape.width, hidden, shape.rank_out)


def _projection(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    whole = nn.Linear(inputs, outputs)
    return whole if rank is None else new_factors(inputs, outputs, rank, whole)


def _last(projection: nn.Module) -> nn.Linear:
    return factors(projection)[-1]


def _rank(projection: nn.Module) -> int | None:
    return projection[0].out_features if isinstance(projection, nn.Sequential) else None
