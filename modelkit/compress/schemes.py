"""What each quantization scheme makes of a fused float32 graph; most of them are stock ONNX Runtime.

Leaves this project's own rewrites to `quantize` and `tensorrt`, calibration to `calibration`, names to
`catalogue`, scores to `evaluate`, the choice to `choice`. Called by `package` and `fall_back`. Needs onnx
(the `train` extra).

The embeddings, half of the file, are the same int8 table in all schemes for CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from modelkit.compress.calibration import Calibration, Method, typed
from modelkit.compress.graph import EMBEDDINGS, copy_of, is_head
from modelkit.compress.quantize import per_token, quantize_embeddings
from modelkit.compress.tensorrt import qdq

BLOCKS = {8: 64, 4: 32}  # bits of a weight: how many of a column share a scale

Left = Collection[str]  # parts that stay float32
_Build = Callable[[onnx.ModelProto, Calibration, Left], onnx.ModelProto]


def quantized(
    scheme: str, model: onnx.ModelProto, calibration: Calibration, left: Left = ()
) -> onnx.ModelProto:
    """`model`, fused and float32, by a scheme of the catalogue; the parts in `left` stay as they are."""
    return _BUILDS[scheme](copy_of(model), calibration, left)


def _per_token(model: onnx.ModelProto, _calibration: Calibration, left: Left) -> onnx.ModelProto:
    return per_token(_small(model, left), left)


def _static(method: Method) -> _Build:
    """Stock static quantization (QDQ, outputs left in float32)."""

    def build(model: onnx.ModelProto, calibration: Calibration, left: Left) -> onnx.ModelProto:
        quantizer = QDQQuantizer(
            typed(_small(model, left)),
            per_channel=True,
            reduce_range=True,  # kernels without VNNI saturate with eight bits
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=calibration.ranges(method),
            nodes_to_quantize=[],
            nodes_to_exclude=_excluded(model, left),
            op_types_to_quantize=["MatMul"],
            extra_options={
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        result: onnx.ModelProto = quantizer.model.model
        return result

    return build


def _weight_only(bits: int) -> _Build:
    """Stock block weights; the kernel is free to quantize activations per row and block."""

    def build(model: onnx.ModelProto, _calibration: Calibration, left: Left) -> onnx.ModelProto:
        stock = MatMulNBitsQuantizer(
            _small(model, left),
            bits=bits,
            block_size=BLOCKS[bits],
            is_symmetric=True,
            accuracy_level=4,
            nodes_to_exclude=_excluded(model, left),
        )
        stock.process()
        result: onnx.ModelProto = stock.model.model
        return result

    return build


def _dynamic(model: onnx.ModelProto, _calibration: Calibration, left: Left) -> onnx.ModelProto:
    """Stock dynamic quantization: one activation range over the whole batch."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(_small(model, left), source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_excluded(model, left),
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(target)


def _fp16(model: onnx.ModelProto, _calibration: Calibration, _left: Left) -> onnx.ModelProto:
    """Stock half precision, the heads too; inputs and outputs of the graph keep their types.

    All or nothing: around single nodes the stock converter writes casts twice, and no graph comes of it.
    """
    # Shapes can't be inferred through contrib operators, and need not be: every float32 constant is halved.
    half: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    return half


def _qdq(model: onnx.ModelProto, calibration: Calibration, left: Left) -> onnx.ModelProto:
    return qdq(model, calibration.ranges("minmax"), _excluded(model, left))


def _small(model: onnx.ModelProto, left: Left) -> onnx.ModelProto:
    """The graph with its embeddings as an int8 table, unless they are to be left."""
    return model if EMBEDDINGS in left else quantize_embeddings(model)


def _excluded(model: onnx.ModelProto, left: Left) -> list[str]:
    return [node.name for node in model.graph.node if is_head(node) or node.name in left]


_BUILDS: dict[str, _Build] = {
    "per_token": _per_token,
    "static_minmax": _static("minmax"),
    "static_entropy": _static("entropy"),
    "static_percentile": _static("percentile"),
    "weight_int8": _weight_only(8),
    "weight_int4": _weight_only(4),
    "fp16": _fp16,
    "qdq": _qdq,
    "dynamic": _dynamic,
}
