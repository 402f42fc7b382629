"""Laws of every scheme: near float32, blind to the batch where served, and nothing but what was asked."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from minwatt.v1.errors import UsageError
from modelkit.compress.calibration import Calibration
from modelkit.compress.catalogue import CATALOGUE, DEFAULT, schemes_named
from modelkit.compress.graph import parts, save
from modelkit.compress.plain import plain
from modelkit.compress.schemes import quantized
from modelkit.compress.tensorrt import TRTEXEC, faults, try_tensorrt
from modelkit.inference import Graph, Ids
from modelkit.release.operators import CUDA, TENSORRT, without_kernel
from tests.modelkit.tiny_encoder import tiny_encoder
from tests.modelkit.tiny_graph import WORDS

SERVED = [name for name, scheme in CATALOGUE.items() if scheme.served]
# Logits have a standard deviation near 1; four bits leave a sixteenth of the weights' range.
NEAR = dict.fromkeys(CATALOGUE, 0.5) | {
    "fp16": 0.02,
    "per_token": 0.1,
    "weight_int8": 0.1,
    "weight_int4": 1.2,
}

# (ids, length) of a batch's texts; padding is on the right
TEXTS = st.lists(st.lists(st.integers(1, WORDS - 1), min_size=1, max_size=12), min_size=1, max_size=4)


def padded(texts: list[list[int]]) -> tuple[Ids, Ids]:
    longest = max(map(len, texts))
    ids = np.array([text + [0] * (longest - len(text)) for text in texts], np.int64)
    mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts], np.int64)
    return ids, mask


class Bench:
    """The tiny encoder, calibrated, and by every scheme."""

    def __init__(self, folder: Path) -> None:
        generator = np.random.default_rng(1)
        batches = [padded(generator.integers(1, WORDS, (8, n)).tolist()) for n in (3, 7, 12)]
        self.folder = folder
        self.model = tiny_encoder(1)
        self.calibration = Calibration(self.model, batches)
        self.graphs = {name: self.open(self.by(name), name) for name in CATALOGUE}
        self.fp32 = self.open(self.model, "fp32")
        self.plain = self.open(plain(self.model), "plain")

    def by(self, scheme: str, left: tuple[str, ...] = ()) -> onnx.ModelProto:
        return quantized(scheme, self.model, self.calibration, left)

    def open(self, model: onnx.ModelProto, name: str) -> Graph:
        save(model, self.folder / f"{name}.onnx")
        return Graph(self.folder / f"{name}.onnx")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    logging.disable(logging.WARNING)
    try:
        return Bench(tmp_path_factory.mktemp("schemes"))
    finally:
        logging.disable(logging.NOTSET)


def differences(one: Graph, other: Graph, ids: Ids, mask: Ids) -> float:
    """The largest, where a token is."""
    (intents, tags), (others, other_tags) = one.run(ids, mask), other.run(ids, mask)
    keep = mask.astype(bool)
    return max(float(np.abs(intents - others).max()), float(np.abs(tags - other_tags)[keep].max()))


@given(TEXTS)
@settings(deadline=None)
def test_standard_operators_answer_as_the_fused_ones(bench: Bench, texts: list[list[int]]) -> None:
    assert differences(bench.fp32, bench.plain, *padded(texts)) < 1e-4
    assert without_kernel(plain(bench.model), TENSORRT) == {}


def test_token_types_that_are_looked_up_stay(bench: Bench) -> None:
    model = tiny_encoder(1, forms=True)
    fp32, ids = bench.open(model, "forms"), padded([[2, 3, 4, 5], [7]])
    assert differences(bench.fp32, fp32, *ids) > 0.1
    assert differences(fp32, bench.open(plain(model), "plain forms"), *ids) < 1e-4
    small = quantized("per_token", model, bench.calibration, ())
    assert differences(fp32, bench.open(small, "small forms"), *ids) < NEAR["per_token"]


@given(TEXTS)
@settings(deadline=None, max_examples=40)
def test_every_scheme_answers_like_float32(bench: Bench, texts: list[list[int]]) -> None:
    for name, graph in bench.graphs.items():
        assert differences(bench.fp32, graph, *padded(texts)) < NEAR[name], name


@given(TEXTS)
@settings(deadline=None, max_examples=40)
def test_a_served_text_does_not_depend_on_its_batch(bench: Bench, texts: list[list[int]]) -> None:
    ids, mask = padded(texts)
    for name in SERVED:
        intents, tags = bench.graphs[name].run(ids, mask)
        for row, text in enumerate(texts):
            alone, alone_tags = bench.graphs[name].run(*padded([text]))
            assert np.abs(alone[0] - intents[row]).max() < 1e-2, name
            assert np.abs(alone_tags[0] - tags[row, : len(text)]).max() < 1e-2, name


@pytest.mark.parametrize("scheme", [name for name in SERVED if CATALOGUE[name].divisible])
def test_what_is_left_in_float32_is_as_it_was(bench: Bench, scheme: str) -> None:
    everything = parts(bench.model)
    assert everything == ("embeddings", "query", "key", "value", "output", "up", "down")
    ids, mask = padded([[5, 6, 7, 8], [9]])
    untouched = bench.open(bench.by(scheme, everything), "left")
    assert differences(bench.fp32, untouched, ids, mask) < 1e-5
    sizes = [len(bench.by(scheme, left).SerializeToString()) for left in ((), ("up",), ("up", "down"))]
    if scheme != "qdq":  # whose weights stay float32 in the file
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]


def test_the_tensorrt_form_is_symmetric_int8_in_standard_operators(bench: Bench) -> None:
    model = bench.by("qdq")
    assert faults(model) == ()
    assert without_kernel(model, TENSORRT) == {}
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    columns = {
        node.input[0]: len(np.atleast_1d(constants[node.input[1]]))
        for node in model.graph.node[::-1]
        if node.op_type == "QuantizeLinear"
    }
    assert (columns["up"], columns["down"], columns["active"]) == (64, 32, 1)
    wrong = bench.by("static_minmax")
    assert any("zero point" in fault for fault in faults(wrong))
    assert any("com.microsoft" in fault for fault in faults(wrong))


def test_providers_are_told_what_they_can_not_run(bench: Bench) -> None:
    assert without_kernel(bench.model, CUDA) == {}
    assert without_kernel(bench.by("fp16"), CUDA) == {}
    assert without_kernel(bench.by("per_token"), CUDA) == {"com.microsoft.MatMulIntegerToFloat": 6}
    assert "com.microsoft.MultiHeadAttention" in without_kernel(bench.model, TENSORRT)


def test_an_operator_without_standard_form_is_named() -> None:
    model = tiny_encoder(1)
    model.graph.node[3].op_type = "FastGelu"
    with pytest.raises(UsageError, match=r"operator 'FastGelu' has no standard form; allowed: Embed"):
        plain(model)


def test_without_trtexec_a_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert try_tensorrt(tmp_path / "model.onnx").startswith(f"TensorRT: no {TRTEXEC} on the PATH")
    program = tmp_path / TRTEXEC
    program.write_text("#!/bin/sh\necho '[I] Throughput: 12 qps'\n")
    program.chmod(0o755)
    assert try_tensorrt(tmp_path / "model.onnx").endswith("built and ran the graph: [I] Throughput: 12 qps")
    program.write_text("#!/bin/sh\necho '[E] no such layer' >&2\nexit 1\n")
    assert try_tensorrt(tmp_path / "model.onnx").endswith("refused the graph: [E] no such layer")


def test_schemes_are_named_once_each_in_the_catalogues_order() -> None:
    assert schemes_named((), ()) == DEFAULT
    assert schemes_named(("fp16", "per_token", "fp16"), ("weight_int4",)) == (
        "per_token",
        "weight_int4",
        "fp16",
    )
    with pytest.raises(UsageError, match="scheme = 'int3': allowed: per_token"):
        schemes_named(("int3",), ())
    with pytest.raises(UsageError, match="keep = 'dynamic': never served"):
        schemes_named((), ("dynamic",))
