"""Training rounds as the shipped graph does, and the gradient passes by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelkit.compress.quantize import quantize_weights

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")

SOME = st.floats(-100, 100, width=32)
MATRICES = hnp.arrays(np.float32, st.tuples(st.integers(2, 40), st.integers(1, 6)), elements=SOME)


@given(MATRICES)
def test_paired_weights_are_those_of_the_graph(weights: np.ndarray) -> None:
    from modelkit.training.fake_quantization import paired_weights

    codes, scales = quantize_weights(weights)
    ours = paired_weights(torch.from_numpy(weights.T.copy())).numpy().T
    assert np.allclose(ours, codes * scales, atol=1e-6 * max(1.0, float(np.abs(weights).max())))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([4, 8]), st.sampled_from([20, 64, 96]))
def test_block_weights_are_those_of_onnx_runtime(seed: int, bits: int, width: int) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    from modelkit.compress.schemes import BLOCKS
    from modelkit.training.fake_quantization import BlockWeights

    weights = np.random.default_rng(seed).normal(0, 1, (width, 5)).astype(np.float32)
    model = product(weights)
    stock = MatMulNBitsQuantizer(model, bits=bits, block_size=BLOCKS[bits], is_symmetric=True)
    stock.process()
    there = run(stock.model.model, np.eye(width, dtype=np.float32))
    ours = BlockWeights(bits)(torch.from_numpy(weights.T.copy())).numpy().T
    assert np.allclose(ours, there, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_seven_bit_weights_and_static_inputs_are_those_of_onnx_runtime(seed: int) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    from modelkit.training.fake_quantization import Static, seven_bit_weights

    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 1, (12, 5)).astype(np.float32)
    values = generator.normal(0.3, 1, (7, 12)).astype(np.float32)
    lowest, highest = np.float32(values.min()), np.float32(values.max())
    quantizer = QDQQuantizer(
        product(weights),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax, {"values": (np.array(lowest), np.array(highest))}
        ),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={
            "DefaultTensorType": TensorProto.FLOAT,
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    there = run(quantizer.model.model, values)
    inputs = Static(float(lowest), float(highest))(torch.from_numpy(values))
    ours = inputs @ seven_bit_weights(torch.from_numpy(weights.T.copy())).T
    # A value halfway between two codes may go either way: a step of one code, times one weight.
    assert np.abs(ours.numpy() - there).max() < 0.05
    assert np.abs(ours.numpy() - there).mean() < 1e-3


@given(hnp.arrays(np.float32, (3, 8), elements=SOME))
def test_rows_keep_half_a_step_and_see_nothing_of_one_another(values: np.ndarray) -> None:
    from modelkit.training.fake_quantization import rows, rows_after_gelu

    tensor = torch.from_numpy(values)
    rounded = rows(tensor)
    steps = np.maximum(values.max(1, keepdims=True) / 127, -values.min(1, keepdims=True) / 128)
    assert (np.abs(rounded.numpy() - values) <= 0.5001 * np.maximum(steps, 1e-8) + 1e-6).all()
    for one in (rows, rows_after_gelu):
        assert torch.equal(one(tensor)[1:2], one(tensor[1:2]))


def product(weights: np.ndarray):
    """`values` [rows, in] times weights [in, out]."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["values", "weights"], ["product"], name="product")],
        "product",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["rows", len(weights)])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model, values: np.ndarray) -> np.ndarray:
    """As written: fused kernels compute in other units."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    [result] = session.run(None, {"values": values})
    return result
