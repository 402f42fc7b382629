"""Rewrites a float32 graph to int8: a table of embeddings, and products with a scale per token.

Owns this project's own rewrite. Leaves the stock schemes it is compared with to `schemes`, scores to
`evaluate` and the choice to `choice`. Called by `schemes` and `package`. Needs onnx (the `train` extra).

The heads stay float32: they are 0.2% of the work and would cost accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from modelkit.inference import INPUTS

CONTRIB = "com.microsoft"
OPSET = 21
# Kernels without VNNI add the u8 × s8 products of two neighbours in 16 bits: 255 × 128 = 32,640 fits.
CODE_LIMIT = 127  # of one weight
PAIR_LIMIT = 128  # of the magnitudes of two weights that follow one another in a column
HIGHEST = 255  # code of an activation
ZERO = 128  # code of activation 0
ZERO_OF_GELU = 16  # GELU is never below -0.17: nearly all codes go to the positive side
SMALLEST_STEP = 1e-8  # of a token's activations: a row of zeros stays zero
GELUS = ("BiasGelu", "Gelu", "FastGelu")

Floats = NDArray[np.float32]


@dataclass
class _Rewrite:
    """The nodes and constants of a graph being written."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(
        self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        node = helper.make_node(operator, list(inputs), [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def has(self, output: str) -> bool:
        return any(output in node.output for node in self.nodes)


def quantize_weights(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 of `weights` [in, out] and a scale per output column [out], safe from saturation.

    A scale is as fine as the column's largest pair of neighbours allows. (Seven bits for every weight are
    safe as well, but a third coarser.)
    """
    size = np.abs(weights)
    pairs = (size[:-1] + size[1:]).max(axis=0, initial=0.0)
    # Rounding may add half a step to either of a pair.
    scales = np.maximum(size.max(axis=0) / CODE_LIMIT, pairs / (PAIR_LIMIT - 1))
    scales = np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)
    return np.round(weights / scales).astype(np.int8), scales


def quantize_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 of `table` [rows, width] in ±127, and a scale per row [rows, 1]."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.maximum(largest, np.finfo(np.float32).tiny) / 127
    return np.round(table / scales).astype(np.int8), scales.astype(np.float32)


def quantize_embeddings(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace `EmbedLayerNormalization` by a lookup in an int8 table with a scale per word.

    Positions and the token type become one float32 table of 512 rows; where tokens have forms (`casing`),
    what theirs differ by is added.
    """
    weights = constant_weights(model)
    rewrite = _Rewrite()
    for node in model.graph.node:
        if node.op_type != "EmbedLayerNormalization":
            rewrite.nodes.append(node)
            continue
        ids, segments, words, positions, types, gain, shift, _ = node.input
        table, scales = quantize_rows(weights[words])
        places = weights[positions] + weights[types][0]
        add, constant = rewrite.add, rewrite.constant
        quantized = add("Gather", [constant("embeddings.int8", table), ids], "embeddings.row")
        scale = add("Gather", [constant("embeddings.scale", scales), ids], "embeddings.row_scale")
        codes = add("Cast", [quantized], "embeddings.float", to=onnx.TensorProto.FLOAT)
        word = add("Mul", [codes, scale], "embeddings.vector")
        if _has_forms(model, segments, weights):
            differences = constant("embeddings.forms", weights[types] - weights[types][:1])
            form = add("Gather", [differences, segments], "embeddings.form")
            word = add("Add", [word, form], "embeddings.formed")
        length = add("Shape", [INPUTS[0]], "embeddings.length", start=1, end=2)
        start = constant("embeddings.zero", np.array([0], np.int64))
        place = add("Slice", [constant("embeddings.positions", places), start, length], "embeddings.places")
        epsilon = next(helper.get_attribute_value(a) for a in node.attribute if a.name == "epsilon")
        add("SkipLayerNormalization", [word, place, gain, shift], node.output[0], CONTRIB, epsilon=epsilon)
        mask = add("Cast", [INPUTS[1]], "embeddings.mask", to=onnx.TensorProto.INT32)
        axis = constant("embeddings.one", np.array([1], np.int64))
        add("ReduceSum", [mask, axis], node.output[1], keepdims=0)
    return _finish(model, rewrite)


def _has_forms(model: onnx.ModelProto, segments: str, weights: Mapping[str, Floats]) -> bool:
    """Whether segment numbers are looked up for each token, and not all 0."""
    producers = {output: node for node in model.graph.node for output in node.output}
    node = producers.get(segments)
    while node is not None and node.op_type == "Cast":
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "Gather" and node.input[0] in weights


def per_token(model: onnx.ModelProto) -> onnx.ModelProto:
    """Integer products with a scale per token (row) and per output column.

    Of row x, with z the code of zero: s = max(max(x) / (255 - z), -min(x) / z), q = round(x / s) + z as
    uint8; the product of q - z with int8 weights W is scaled back by s and by W's column scales inside
    `MatMulIntegerToFloat`. A row sees nothing of another row, so that a text's answer does not depend on its
    batch. (Signed activations would need no zero point, but have no fast kernel on x86.)
    """
    weights = constant_weights(model)
    rewrite = _Rewrite()
    zeros = {node.output[0]: ZERO_OF_GELU for node in model.graph.node if node.op_type in GELUS}
    quantized: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        if not is_projection(node, weights):
            rewrite.nodes.append(node)
            continue
        source, name = node.input
        zero = zeros.get(source, ZERO)
        if source not in quantized:
            quantized[source] = _quantize_rows_of(rewrite, source, weights[name].shape[0], zero)
        values, scales = quantized[source]
        matrix, column_scales = quantize_weights(weights[name])
        rewrite.add(
            "MatMulIntegerToFloat",
            [
                values,
                rewrite.constant(f"{name}.int8", matrix),
                scales,
                rewrite.constant(f"{name}.scale", column_scales),
                rewrite.constant(f"activation.zero_{zero}", np.array(zero, np.uint8)),
            ],
            node.output[0],
            CONTRIB,
        )
    return _finish(model, rewrite)


def _quantize_rows_of(rewrite: _Rewrite, source: str, width: int, zero: int) -> tuple[str, str]:
    """Names of uint8 `source` [batch, tokens, width] and of its scales [batch, tokens, 1]."""
    add, constant = rewrite.add, rewrite.constant
    axis = constant("activation.axis", np.array([-1], np.int64))
    above = constant(f"activation.above_{zero}", np.array(1 / (HIGHEST - zero), np.float32))
    below = constant(f"activation.below_{zero}", np.array(-1 / zero, np.float32))
    highest = add("ReduceMax", [source, axis], f"{source}.max", keepdims=1)
    lowest = add("ReduceMin", [source, axis], f"{source}.min", keepdims=1)
    steps = [add("Mul", [highest, above], f"{source}.above"), add("Mul", [lowest, below], f"{source}.below")]
    smallest = constant("activation.smallest_step", np.array(SMALLEST_STEP, np.float32))
    scales = add("Max", [*steps, smallest], f"{source}.scale")
    # QuantizeLinear takes a scale per row of a matrix, with a zero point for each.
    flat = constant("activation.flat", np.array([-1], np.int64))
    row_scales = add("Reshape", [scales, flat], f"{source}.row_scale")
    matrix = constant(f"activation.rows_of_{width}", np.array([-1, width], np.int64))
    rows = add("Reshape", [source, matrix], f"{source}.rows")
    zeros = _zeros(rewrite, row_scales, zero)
    codes = add("QuantizeLinear", [rows, row_scales, zeros], f"{source}.codes", axis=0)
    columns = constant(f"activation.width_{width}", np.array([width], np.int64))
    shape = add("Concat", [_batch_and_tokens(rewrite), columns], f"{source}.shape", axis=0)
    return add("Reshape", [codes, shape], f"{source}.uint8"), scales


def _zeros(rewrite: _Rewrite, row_scales: str, zero: int) -> str:
    """The zero point of every row; written once a graph, as all projections have the same rows."""
    name = f"activation.zeros_{zero}"
    if not rewrite.has(name):
        one = rewrite.constant(f"activation.row_zero_{zero}", np.array([zero], np.uint8))
        rewrite.add("Expand", [one, rewrite.add("Shape", [row_scales], f"{name}.rows")], name)
    return name


def _batch_and_tokens(rewrite: _Rewrite) -> str:
    name = "activation.batch_and_tokens"
    return name if rewrite.has(name) else rewrite.add("Shape", [INPUTS[0]], name)


def save(model: onnx.ModelProto, file: Path) -> None:
    """Check the graph and write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def constant_weights(model: onnx.ModelProto) -> dict[str, Floats]:
    """The constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def is_projection(node: onnx.NodeProto, weights: Mapping[str, Floats]) -> bool:
    """A product with constant weights inside the encoder (the heads' results are never quantized)."""
    return node.op_type == "MatMul" and node.input[1] in weights and not is_head(node)


def is_head(node: onnx.NodeProto) -> bool:
    """True for a node of a task's head."""
    return "_head" in node.name


def _finish(model: onnx.ModelProto, rewrite: _Rewrite) -> onnx.ModelProto:
    """The model with the rewritten nodes, without what no output needs any more."""
    needed = {output.name for output in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(rewrite.nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [*model.graph.initializer, *rewrite.constants.values()]
    graph = helper.make_graph(
        kept[::-1],
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [tensor for tensor in constants if tensor.name in needed],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="minwatt")
