"""Makes a student of a teacher: a smaller encoder that begins with what of the teacher's weights fits.

Owns which layers, coordinates, attention heads and feed-forward units are kept. Leaves training to `distil`.
Called by `distil`. Needs torch (the `train` extra).

What fits is copied, cut where the student is narrower:

- layers: evenly from the teacher's, its last always among them;
- feed-forward units: those with the largest product of the norms of what leads in and what leads out;
- coordinates of the hidden state: those that the layers' normalisations scale highest;
- attention heads, where they are as wide as the teacher's: those with the largest output matrix; else they
  begin at random.

Parts that are larger than the teacher's, of whom layers may have been pruned, begin at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import BertConfig, BertModel

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.recipe import StudentShape
from modelkit.training.lean_encoder import SHAPES, head_size, shape_of, whole
from modelkit.training.network import MultiTaskEncoder

ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value")


@dataclass(frozen=True)
class Student:
    """The network, of which teacher layer each of its layers is to be like, and what it began with."""

    network: MultiTaskEncoder
    layers: tuple[int, ...]  # of the teacher, from 0
    notes: tuple[str, ...]


def make_student(
    teacher: MultiTaskEncoder, shape: StudentShape, tasks: Sequence[Task], dropout: float
) -> Student:
    """A student with the teacher's vocabulary, positions and heads (of `tasks`, which the teacher has).

    Raises UsageError on a shape that no encoder has, or more layers than the teacher's.
    """
    config = _config(teacher.encoder.config, shape, dropout)
    encoder = BertModel._from_config(config, attn_implementation="eager", add_pooling_layer=False)
    student = teacher.like(encoder, tasks)
    layers = spread(config.num_hidden_layers, teacher.encoder.config.num_hidden_layers)
    width = _coordinates(teacher.encoder, config.hidden_size)
    fresh = set(_copy_embeddings(teacher.encoder, encoder, width))
    for ours, theirs in zip(
        encoder.encoder.layer, (teacher.encoder.encoder.layer[i] for i in layers), strict=True
    ):
        fresh.update(_copy_layer(theirs, ours, width, teacher.encoder.config, config))
    if not _is_wider(config.hidden_size, teacher.encoder.config.hidden_size):
        for head, task in enumerate(tasks):
            theirs = teacher.task_heads[teacher.tasks.index(task)]
            _copy(theirs, student.task_heads[head], columns=width)
    else:
        fresh.add("heads")
    return Student(student, layers, tuple(_notes(teacher.encoder.config, config, layers, fresh)))


def spread(few: int, many: int) -> tuple[int, ...]:
    """`few` of `many` layers at even distances, the last among them."""
    return tuple((number + 1) * many // few - 1 for number in range(few))


def _config(teacher: BertConfig, shape: StudentShape, dropout: float) -> BertConfig:
    layers = shape.layers
    width = shape.hidden_size or teacher.hidden_size
    heads = shape.heads or teacher.num_attention_heads
    inner = shape.feed_forward or teacher.intermediate_size
    if layers > teacher.num_hidden_layers:
        raise UsageError(
            f"layers = {layers}: the teacher has {teacher.num_hidden_layers}; allowed: as many or fewer"
        )
    if width % heads:
        raise UsageError(f"hidden-size = {width}: allowed: a multiple of the {heads} heads")
    config = BertConfig.from_dict({**teacher.to_dict(), SHAPES: None})
    config.num_hidden_layers, config.hidden_size = layers, width
    config.num_attention_heads, config.intermediate_size = heads, inner
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    return config


def _is_wider(ours: int, theirs: int) -> bool:
    return ours > theirs


def _coordinates(teacher: BertModel, width: int) -> torch.Tensor:
    """Of the hidden state: all, or those with the largest normalisation gains, summed over the layers."""
    gains = teacher.embeddings.LayerNorm.weight.detach().abs().clone()
    for layer in teacher.encoder.layer:
        gains += layer.output.LayerNorm.weight.detach().abs()
    return _largest(gains, width)


def _largest(sizes: torch.Tensor, count: int) -> torch.Tensor:
    """Indices, in order, of the `count` largest; of all where there are no more."""
    kept: torch.Tensor = sizes.topk(min(count, len(sizes))).indices.sort().values
    return kept


def _copy_embeddings(teacher: BertModel, student: BertModel, width: torch.Tensor) -> Iterator[str]:
    if student.config.hidden_size > teacher.config.hidden_size:
        yield "embeddings"
        return
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        ours, theirs = getattr(student.embeddings, name), getattr(teacher.embeddings, name)
        ours.weight.data.copy_(theirs.weight.data[:, width])
    _copy(teacher.embeddings.LayerNorm, student.embeddings.LayerNorm, rows=width)


def _copy_layer(
    teacher: nn.Module, student: nn.Module, width: torch.Tensor, theirs: BertConfig, ours: BertConfig
) -> Iterator[str]:
    """Copies what fits and names what does not."""
    if ours.hidden_size > theirs.hidden_size:
        yield "layers"
        return
    shape, head = shape_of(teacher, theirs), head_size(theirs)
    if head_size(ours) == head and ours.num_attention_heads <= shape.heads:
        rows = _units_of_heads(teacher, ours.num_attention_heads, head)
        for name in ATTENTION:
            _copy(teacher.get_submodule(name), student.get_submodule(name), rows, width)
        _copy(
            teacher.get_submodule("attention.output.dense"),
            student.get_submodule("attention.output.dense"),
            width,
            rows,
        )
    else:
        yield "attention"
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        _copy(teacher.get_submodule(name), student.get_submodule(name), width)
    if ours.intermediate_size > shape.width:
        yield "feed-forward matrices"
        return
    into, out = (whole(teacher.get_submodule(name)) for name in ("intermediate.dense", "output.dense"))
    units = _largest(
        into.weight.detach().norm(dim=1) * out.weight.detach().norm(dim=0), ours.intermediate_size
    )
    _copy(into, student.get_submodule("intermediate.dense"), units, width)
    _copy(out, student.get_submodule("output.dense"), width, units)


def _units_of_heads(teacher: nn.Module, heads: int, size: int) -> torch.Tensor:
    """The rows of the strongest attention heads, as many as the student has."""
    out = teacher.get_submodule("attention.output.dense").weight.detach()
    strength = out.reshape(out.shape[0], -1, size).norm(dim=(0, 2))
    kept = _largest(strength, heads)
    rows: torch.Tensor = (kept[:, None] * size + torch.arange(size)).flatten()
    return rows


def _copy(
    theirs: nn.Module, ours: nn.Module, rows: torch.Tensor | None = None, columns: torch.Tensor | None = None
) -> None:
    weight, bias = theirs.weight.data, theirs.bias.data
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    ours.weight.data.copy_(weight if columns is None else weight[:, columns])
    ours.bias.data.copy_(bias)


def _notes(teacher: BertConfig, student: BertConfig, layers: Sequence[int], fresh: set[str]) -> Iterator[str]:
    yield f"the student begins with the teacher's layers {', '.join(str(layer + 1) for layer in layers)}"
    parts = (
        ("hidden-size", "hidden_size", "coordinates with the largest normalisation gains"),
        ("feed-forward", "intermediate_size", "strongest units"),
    )
    for name, field, kept in parts:
        ours, theirs = getattr(student, field), getattr(teacher, field)
        if ours < theirs:
            yield f"{name} {ours} of {theirs}: the {kept} are kept"
    if fresh:
        yield f"begins at random, as the shapes differ: {', '.join(sorted(fresh))}"
