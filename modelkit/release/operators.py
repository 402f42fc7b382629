"""Which operators of a graph an execution provider has no kernel for.

Owns the lists of CUDA and TensorRT; each names the document it was read from, and holds what graphs of this
kit can have, not all that a provider has. The CPU needs no list: a session is made. Leaves sessions to
`inference`. Called by `release.run`. Needs onnx (the `train` extra).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx

from modelkit.compress.graph import CONTRIB


@dataclass(frozen=True)
class OperatorList:
    """What a provider's own document says that it runs."""

    provider: str
    source: str
    opsets: tuple[int, int]  # lowest and highest of the default domain
    operators: frozenset[tuple[str, str]]  # domain, name


_STANDARD = (
    "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Equal",
    "Erf", "Expand", "Gather", "GatherElements", "Gelu", "Gemm", "Identity", "LayerNormalization",
    "MatMul", "Max", "Min", "Mul", "Neg", "Not", "Pow", "QuantizeLinear", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "Reshape", "Shape", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub",
    "Tanh", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
_FUSED = (
    "BiasGelu", "EmbedLayerNormalization", "FastGelu", "Gelu", "MatMulNBits", "MultiHeadAttention",
    "SkipLayerNormalization",
)  # fmt: skip

CUDA = OperatorList(
    "CUDA",
    "microsoft/onnxruntime docs/OperatorKernels.md at 001d12d2623f",
    (7, 25),
    frozenset({*(("", name) for name in _STANDARD), *((CONTRIB, name) for name in _FUSED)}),
)
TENSORRT = OperatorList(
    "TensorRT",
    "onnx/onnx-tensorrt docs/operators.md of TensorRT 10.15",
    (9, 24),
    frozenset(("", name) for name in _STANDARD),
)


def without_kernel(model: onnx.ModelProto, listed: OperatorList) -> dict[str, int]:
    """How many nodes of each operator the list has not; an opset out of its range counts as one."""
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    lowest, highest = listed.opsets
    counted = Counter(
        f"{node.domain}.{node.op_type}".lstrip(".")
        for node in model.graph.node
        if (node.domain.replace("ai.onnx", ""), node.op_type) not in listed.operators
    )
    if not lowest <= opset <= highest:
        counted[f"opset {opset}"] = 1
    return dict(sorted(counted.items()))
