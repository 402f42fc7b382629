"""Laws of the int8 rewrite: close to float32, blind to the rest of the batch, safe from 16-bit saturation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelkit.compress.quantize import (
    HIGHEST,
    per_token,
    quantize_embeddings,
    quantize_rows,
    quantize_weights,
)
from modelkit.inference import Graph
from tests.modelkit.tiny_graph import WORDS, saved, tiny_graph

MATRICES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e3, 1e3, width=32)
)
IDS = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.integers(0, WORDS - 1)
)


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    return per_token(quantize_embeddings(model))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Graph]:
    folder = tmp_path_factory.mktemp("graphs")
    return Graph(saved(tiny_graph(1), folder / "fp32.onnx")), Graph(
        saved(rewritten(tiny_graph(1)), folder / "int8.onnx")
    )


@given(MATRICES)
def test_codes_are_within_half_a_step(weights: np.ndarray) -> None:
    for quantize in (quantize_weights, quantize_rows):
        codes, scales = quantize(weights)
        assert np.abs(codes.astype(int)).max() <= 127
        assert (np.abs(codes * scales - weights) <= scales * 0.5001 + 1e-6).all()


@given(MATRICES)
def test_two_neighbouring_products_fit_16_bits(weights: np.ndarray) -> None:
    codes = np.abs(quantize_weights(weights)[0].astype(int))
    assert ((codes[:-1] + codes[1:]) * HIGHEST < 2**15).all()


@given(IDS)
def test_the_rewrite_answers_like_float32(graphs: tuple[Graph, Graph], ids: np.ndarray) -> None:
    fp32, int8 = (graph.run(ids, np.ones_like(ids)) for graph in graphs)
    for exact, close in zip(fp32, int8, strict=True):
        assert np.abs(exact - close).max() < 0.05  # logits have a standard deviation near 1


@given(IDS)
def test_a_row_does_not_depend_on_its_batch(graphs: tuple[Graph, Graph], ids: np.ndarray) -> None:
    _, int8 = graphs
    among = int8.run(ids, np.ones_like(ids))
    for row in range(len(ids)):
        alone = int8.run(ids[row : row + 1], np.ones_like(ids[row : row + 1]))
        assert np.array_equal(alone[0][0], among[0][row])
        assert np.array_equal(alone[1][0], among[1][row])


def test_only_the_encoder_is_quantized(tmp_path: Path) -> None:
    model = rewritten(tiny_graph(1))
    kinds: Callable[[str], int] = lambda kind: sum(node.op_type == kind for node in model.graph.node)  # noqa: E731
    assert (kinds("MatMulIntegerToFloat"), kinds("MatMul"), kinds("EmbedLayerNormalization")) == (2, 2, 0)
    stored = {tensor.name for tensor in model.graph.initializer}
    assert not {"words", "up", "down"} & stored
    onnx.checker.check_model(model)
