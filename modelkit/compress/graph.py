"""A float32 graph's parts, and how a graph is written anew.

Owns what counts as a part that can be quantized or left, and the bookkeeping of a rewrite. Leaves what is
rewritten to `quantize`, `plain` and `schemes`. Called by them, `fall_back` and `package`. Needs onnx.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CONTRIB = "com.microsoft"
EMBEDDINGS = "embeddings"  # the name of that part

Floats = NDArray[np.float32]


@dataclass
class Rewrite:
    """The nodes and constants of a graph being written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Its name; written once."""
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(
        self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        """The name of the node's one output."""
        node = helper.make_node(operator, list(inputs), [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def has(self, output: str) -> bool:
        return any(output in node.output for node in self.nodes)

    def finish(self, model: onnx.ModelProto, opsets: Mapping[str, int]) -> onnx.ModelProto:
        """`model` with these nodes in place of its own, without what no output needs any more."""
        needed = {output.name for output in model.graph.output}
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants: Iterable[onnx.TensorProto] = [*model.graph.initializer, *self.constants.values()]
        graph = helper.make_graph(
            kept[::-1],
            model.graph.name,
            model.graph.input,
            model.graph.output,
            [tensor for tensor in constants if tensor.name in needed],
        )
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=10, producer_name="minwatt")


def save(model: onnx.ModelProto, file: Path) -> None:
    """Check the graph and write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stock quantizers change what they are given."""
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate


def parts(model: onnx.ModelProto) -> tuple[str, ...]:
    """What of a fused float32 graph can be quantized or left: the embeddings, and each projection by its
    node's name."""
    weights = {tensor.name: None for tensor in model.graph.initializer}
    found = [EMBEDDINGS for node in model.graph.node if node.op_type == "EmbedLayerNormalization"]
    return (*found, *(node.name for node in model.graph.node if is_projection(node, weights)))


def constant_weights(model: onnx.ModelProto) -> dict[str, Floats]:
    """The constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def is_projection(node: onnx.NodeProto, weights: Mapping[str, object]) -> bool:
    """A product with constant weights inside the encoder (the heads' results are never quantized)."""
    return node.op_type == "MatMul" and node.input[1] in weights and not is_head(node)


def is_head(node: onnx.NodeProto) -> bool:
    """True for a node of a task's head."""
    return "_head" in node.name


def has_forms(model: onnx.ModelProto, segments: str) -> bool:
    """Whether the token types in `segments` are looked up for each token, and are not all 0."""
    constants = {tensor.name for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    node = producers.get(segments)
    while node is not None and node.op_type == "Cast":
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "Gather" and node.input[0] in constants


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute."""
    found = (helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return next(found, default)
