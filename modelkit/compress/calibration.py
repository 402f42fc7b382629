"""The ranges that a graph's activations keep on real texts, for scales that are fixed beforehand.

Owns the calibrators, which are ONNX Runtime's. Leaves the texts to `package` and what the ranges are used
for to `schemes` and `tensorrt`. Called by `package`. Needs onnx (the `train` extra).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from modelkit.compress.graph import constant_weights, copy_of, is_projection
from modelkit.inference import INPUTS, Ids

Method = Literal["minmax", "entropy", "percentile"]
_METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}

Batches = Sequence[tuple[Ids, Ids]]


class Calibration:
    """The inputs of a float32 graph's projections over `batches`; each method runs once, when first asked."""

    def __init__(self, model: onnx.ModelProto, batches: Batches) -> None:
        self.batches = batches
        self._model = model
        self._found: dict[Method, Any] = {}

    def ranges(self, method: Method) -> Any:
        """By the names of tensors, as ONNX Runtime's static quantizer takes them."""
        if method not in self._found:
            self._found[method] = self._calibrated(method)
        return self._found[method]

    def _calibrated(self, method: Method) -> Any:
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # it prints a line a batch
            source = Path(folder) / "source.onnx"
            onnx.save(typed(self._model), source)
            calibrator = create_calibrator(
                source,
                ["MatMul"],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=_METHODS[method],
                extra_options={"symmetric": False},
            )
            for batch in self.batches:  # one at a time: histograms can't take two of different lengths
                calibrator.collect_data(_Reader([batch]))
            return calibrator.compute_data()


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that says of every projection's input that it is float32.

    Outputs of contrib operators carry no type; calibrator and quantizer pass over them in silence.
    """
    copy = copy_of(model)
    weights = constant_weights(copy)
    known = {value.name for value in copy.graph.value_info}
    inputs = {node.input[0] for node in copy.graph.node if is_projection(node, weights)} - known
    copy.graph.value_info.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(inputs)
    )
    return copy


class _Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
    """Hands batches to the stock calibrator, one at a time."""

    def __init__(self, batches: Batches) -> None:
        self._batches: Iterator[tuple[Ids, Ids]] = iter(batches)

    def get_next(self) -> dict[str, Ids] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(zip(INPUTS, batch, strict=True))
