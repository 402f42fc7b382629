"""The quantization schemes that are compared, most of them stock ONNX Runtime.

    per_token   integer products; each token's activations have a scale of their own, found while it runs
    static      integer products; one scale per tensor, calibrated on sample texts
    weight_only weights in blocks of eight bits, activations as the kernel likes
    dynamic     integer products; one scale over the whole batch, found while it runs. Listed to show why
                it can't be served: a text's answer depends on its neighbours

The embeddings, half of the file, are the same in all. Leaves the graph rewrite to `quantize`, scores to
`evaluate`, the choice to `choice`. Called by `package`. Needs onnx (the `train` extra).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from modelkit.compress.quantize import (
    constant_weights,
    is_head,
    is_projection,
    per_token,
    quantize_embeddings,
)
from modelkit.inference import INPUTS, Ids

COMPARED_ONLY = "dynamic"

Calibration = Sequence[tuple[Ids, Ids]]


def quantized_variants(file: Path, calibration: Calibration) -> Mapping[str, onnx.ModelProto]:
    """Every scheme of this module applied to the fused float32 graph in `file`."""
    model = quantize_embeddings(onnx.load(file))
    schemes: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
        "per_token": per_token,
        "static": lambda source: static(source, calibration),
        "weight_only": weight_only,
        COMPARED_ONLY: dynamic,
    }
    return {name: scheme(_copy(model)) for name, scheme in schemes.items()}


def weight_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stock eight-bit block weights; the kernel is free to quantize activations per row and block."""
    stock = MatMulNBitsQuantizer(
        model, bits=8, block_size=64, is_symmetric=True, accuracy_level=4, nodes_to_exclude=_head_nodes(model)
    )
    stock.process()
    result: onnx.ModelProto = stock.model.model
    return result


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stock dynamic quantization: one activation range over the whole batch."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_head_nodes(model),
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(target)


def static(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Stock static quantization (QDQ, MinMax over `calibration` batches, outputs left in float32)."""
    weights = constant_weights(model)
    # Outputs of contrib operators carry no type: without one, the calibrator skips them in silence.
    inputs = {node.input[0] for node in model.graph.node if is_projection(node, weights)}
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(inputs)
    )
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_head_nodes(model),
            extra_options={
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
        return onnx.load(target)


class _Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
    """Hands calibration batches to the stock calibrator, one at a time."""

    def __init__(self, calibration: Calibration) -> None:
        self._batches: Iterator[tuple[Ids, Ids]] = iter(calibration)

    def get_next(self) -> dict[str, Ids] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(zip(INPUTS, batch, strict=True))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    duplicate = onnx.ModelProto()
    duplicate.CopyFrom(model)
    return duplicate


def _head_nodes(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if is_head(node)]
