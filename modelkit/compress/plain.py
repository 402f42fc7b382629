"""Rewrites ONNX Runtime's fused operators to standard ONNX, for runtimes that know nothing of them.

Owns that rewrite. Leaves quantization to `tensorrt`. Called by it. Needs onnx.

Names of outputs stay, so that what was calibrated on the fused graph holds for this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from minwatt.v1.errors import UsageError
from modelkit.compress.graph import CONTRIB, Floats, Rewrite, attribute, constant_weights, has_forms
from modelkit.inference import INPUTS

MASKED = -10_000.0  # added to a padding token's scores: e^-10000 is 0 in any float, and -10000 is one in fp16


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in operators of the default domain alone.

    Raises UsageError on a fused operator that has no form here.
    """
    weights = constant_weights(model)
    rewrite = Rewrite()
    for node in model.graph.node:
        if node.domain != CONTRIB:
            rewrite.nodes.append(node)
        elif node.op_type == "EmbedLayerNormalization":
            _embeddings(rewrite, node, weights, model)
        elif node.op_type in _FORMS:
            _FORMS[node.op_type](rewrite, node, weights)
        else:
            allowed = ", ".join(("EmbedLayerNormalization", *_FORMS))
            raise UsageError(
                f"{node.name}: operator {node.op_type!r} has no standard form; allowed: {allowed}"
            )
    opsets = {one.domain: one.version for one in model.opset_import if one.domain != CONTRIB}
    return rewrite.finish(model, opsets)


def _embeddings(
    rewrite: Rewrite, node: onnx.NodeProto, weights: Mapping[str, Floats], model: onnx.ModelProto
) -> None:
    """Word, place and token type, added and normalized; without forms the type is 0 and part of the place."""
    ids, segments, words, positions, types, gain, shift, *_ = node.input
    add, name = rewrite.add, node.output[0]
    places = rewrite.constant("plain.places", weights[positions] + weights[types][0])
    word = add("Gather", [words, ids], f"{name}.word")
    if has_forms(model, segments):
        differences = rewrite.constant("plain.forms", weights[types] - weights[types][:1])
        form = add("Gather", [differences, segments], f"{name}.form")
        word = add("Add", [word, form], f"{name}.formed")
    length = add("Shape", [INPUTS[0]], f"{name}.length", start=1, end=2)
    start = rewrite.constant("plain.zero", np.array([0], np.int64))
    place = add("Slice", [places, start, length], f"{name}.place")
    total = add("Add", [word, place], f"{name}.sum")
    _normalized(rewrite, node, total, gain, shift)
    if len(node.output) > 1 and node.output[1]:
        mask = add("Cast", [INPUTS[1]], f"{node.output[1]}.mask", to=onnx.TensorProto.INT32)
        axis = rewrite.constant("plain.one", np.array([1], np.int64))
        add("ReduceSum", [mask, axis], node.output[1], keepdims=0)


def _skip(rewrite: Rewrite, node: onnx.NodeProto, _weights: Mapping[str, Floats]) -> None:
    states, skipped, gain, shift, *bias = node.input
    name = node.output[0]
    for number, other in enumerate([*bias, skipped]):
        states = rewrite.add("Add", [states, other], f"{name}.sum_{number}")
    _normalized(rewrite, node, states, gain, shift)


def _normalized(rewrite: Rewrite, node: onnx.NodeProto, states: str, gain: str, shift: str) -> None:
    epsilon = attribute(node, "epsilon", 1e-12)
    rewrite.add("LayerNormalization", [states, gain, shift], node.output[0], axis=-1, epsilon=epsilon)


def _gelu(rewrite: Rewrite, node: onnx.NodeProto, _weights: Mapping[str, Floats]) -> None:
    """x / 2 · (1 + erf(x / √2)); `Gelu` itself needs opset 20 and a TensorRT that knows it."""
    add, name = rewrite.add, node.output[0]
    states, *bias = node.input
    for one in bias:
        states = add("Add", [states, one], f"{name}.biased")
    root = rewrite.constant("plain.root_of_half", np.array(math.sqrt(0.5), np.float32))
    one = rewrite.constant("plain.float_one", np.array(1.0, np.float32))
    half = rewrite.constant("plain.half", np.array(0.5, np.float32))
    error = add("Erf", [add("Mul", [states, root], f"{name}.scaled")], f"{name}.erf")
    share = add("Mul", [add("Add", [error, one], f"{name}.twice"), half], f"{name}.share")
    add("Mul", [states, share], name)


def _attention(rewrite: Rewrite, node: onnx.NodeProto, weights: Mapping[str, Floats]) -> None:
    """Scaled dot products of three separate projections, with the bias of all three packed."""
    heads = attribute(node, "num_heads")
    if len(node.input) < 4 or node.input[3] not in weights:
        raise UsageError(f"{node.name}: attention without a constant bias has no standard form")
    add, constant, name = rewrite.add, rewrite.constant, node.output[0]
    biases = np.split(weights[node.input[3]], 3)
    split = constant(f"plain.heads_{heads}", np.array([0, 0, heads, -1], np.int64))
    joined = []
    for letter, source, bias in zip("qkv", node.input[:3], biases, strict=True):
        biased = add("Add", [source, constant(f"{name}.{letter}_bias", bias)], f"{name}.{letter}_biased")
        parted = add("Reshape", [biased, split], f"{name}.{letter}_parted")
        order = [0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]
        joined.append(add("Transpose", [parted], f"{name}.{letter}", perm=order))
    query, key, value = joined
    scale = attribute(node, "scale") or 1 / math.sqrt(len(biases[0]) / heads)
    factor = constant(f"plain.scale_{scale:.8g}", np.array(scale, np.float32))
    scores = add("Mul", [add("MatMul", [query, key], f"{name}.products"), factor], f"{name}.scores")
    masked = add("Add", [scores, _mask(rewrite)], f"{name}.masked")
    shares = add("Softmax", [masked], f"{name}.shares", axis=-1)
    mixed = add("MatMul", [shares, value], f"{name}.mixed")
    ordered = add("Transpose", [mixed], f"{name}.ordered", perm=[0, 2, 1, 3])
    add("Reshape", [ordered, constant("plain.together", np.array([0, 0, -1], np.int64))], name)


def _mask(rewrite: Rewrite) -> str:
    """[batch, 1, 1, tokens]: 0 where a token is, `MASKED` where padding is."""
    name = "plain.mask"
    if rewrite.has(name):
        return name
    add, constant = rewrite.add, rewrite.constant
    mask = add("Cast", [INPUTS[1]], "plain.mask_float", to=onnx.TensorProto.FLOAT)
    axes = constant("plain.axes", np.array([1, 2], np.int64))
    wide = add("Unsqueeze", [mask, axes], "plain.mask_wide")
    absent = add("Sub", [constant("plain.float_one", np.array(1.0, np.float32)), wide], "plain.mask_absent")
    return add("Mul", [absent, constant("plain.masked", np.array(MASKED, np.float32))], name)


_FORMS: dict[str, Callable[[Rewrite, onnx.NodeProto, Mapping[str, Floats]], None]] = {
    "SkipLayerNormalization": _skip,
    "BiasGelu": _gelu,
    "Gelu": _gelu,
    "MultiHeadAttention": _attention,
}
