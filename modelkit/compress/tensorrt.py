"""A graph that TensorRT takes as explicitly quantized, and TensorRT itself where this machine has it.

Owns the form: standard operators, signed int8 with zero point 0, a scale per tensor of activations and per
column of weights. Leaves the standard operators to `plain`, the ranges to `calibration`. Called by `schemes`
and `package`. Needs onnx (the `train` extra).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from modelkit.compress.calibration import typed
from modelkit.compress.graph import constant_weights, is_projection
from modelkit.compress.plain import plain
from modelkit.inference import INPUTS

TRTEXEC = "trtexec"
_TRIAL_S = 540  # building an engine takes minutes
_SHAPES = {"min": (1, 8), "opt": (8, 16), "max": (32, 64)}  # texts, tokens


def qdq(model: onnx.ModelProto, ranges: Any, excluded: Sequence[str]) -> onnx.ModelProto:
    """`model`, fused and float32, with Q and DQ around both inputs of each projection that is not excluded.

    Weights stay float32 before their Q, as ONNX Runtime documents for TensorRT: its builder folds them.
    Biases stay float32, outputs unquantized.
    """
    standard = typed(plain(model))
    weights = constant_weights(standard)
    projections = {node.name for node in standard.graph.node if is_projection(node, weights)}
    chosen = sorted(projections.difference(excluded))
    if not chosen:  # of none, the quantizer makes all
        return standard
    quantizer = QDQQuantizer(
        standard,
        per_channel=True,
        reduce_range=False,  # a GPU adds in 32 bits
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    return result


def faults(model: onnx.ModelProto) -> tuple[str, ...]:
    """What in a quantized graph TensorRT would not take; none where all is well.

    Of its own operators' list see `operators`; here: domains, zero points, types and axes of Q and DQ.
    """
    weights = constant_weights(model)
    found = []
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            found.append(f"{node.name}: operator of domain {node.domain}")
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = weights.get(node.input[1])
        zero = weights.get(node.input[2]) if len(node.input) > 2 else None
        if scale is None or not (scale > 0).all():
            found.append(f"{node.name}: its scale is no positive constant")
        if zero is None or zero.dtype != "int8" or zero.any():
            found.append(f"{node.name}: its zero point is not int8 zero")
    return tuple(found)


def try_tensorrt(file: Path) -> str:
    """What `trtexec` makes of a graph, in a line; that it isn't here, where it isn't."""
    program = shutil.which(TRTEXEC)
    if program is None:
        return f"TensorRT: no {TRTEXEC} on the PATH; the graph was checked by its form alone"
    options = [
        f"--{name}Shapes=" + ",".join(f"{one}:{texts}x{tokens}" for one in INPUTS)
        for name, (texts, tokens) in _SHAPES.items()
    ]
    command = [program, f"--onnx={file}", "--stronglyTyped", *options]
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, check=False, timeout=_TRIAL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"TensorRT: {TRTEXEC} did not end: {error}"
    lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing said"]
    if done.returncode != 0:
        wrong = next((line for line in lines if "[E]" in line), lines[-1])
        return f"TensorRT: {TRTEXEC} refused the graph: {wrong}"
    told = next((line for line in lines if "Throughput:" in line), lines[-1])
    return f"TensorRT: {TRTEXEC} built and ran the graph: {told}"
