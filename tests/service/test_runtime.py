"""What a GPU is asked for and what is said when it can't be used; the bound path itself, on a CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minwatt.v1.model_dir import ModelDirectory
from service.engines import workers_of
from service.runtime.buckets import Buckets
from service.runtime.faults import fault
from service.runtime.onnx import BoundEncoder, OnnxEncoder
from service.runtime.options import GpuOptions, RuntimeOptions, providers
from service.settings import ServeSettings
from tests.tiny_model import INTENTS, MAX_TOKENS, TAGS

HEADS = {"intent_logits": len(INTENTS), "entity_logits": len(TAGS)}
CPU = RuntimeOptions("cpu", threads=1)


@given(st.integers(1, 5000), st.data(), st.integers(1, 4096))
def test_every_shape_goes_to_the_smallest_bucket_that_holds_it(
    texts: int, data: st.DataObject, max_tokens: int
) -> None:
    tokens = data.draw(st.integers(1, max_tokens))
    buckets = Buckets(max_tokens)
    rows, width = buckets.shape_for(texts, tokens)
    assert rows >= texts
    assert tokens <= width <= max(tokens, max_tokens)
    assert buckets.shape_for(rows, width) == (rows, width)  # it is one
    if texts > 1:
        assert buckets.shape_for(texts - 1, tokens)[0] <= rows < 2 * texts
    if tokens > 1:
        smaller = buckets.shape_for(texts, tokens - 1)[1]
        assert smaller == width or smaller < tokens  # none in between would have held it


@given(st.integers(1, 64), st.integers(8, 4096), st.integers(1, 512), st.data())
def test_what_was_prepared_is_all_that_can_come(
    max_texts: int, max_padded: int, max_tokens: int, data: st.DataObject
) -> None:
    buckets = Buckets(max_tokens)
    prepared = buckets.all_within(max_texts, max_padded)
    assert len(set(prepared)) == len(prepared)
    assert prepared == sorted(prepared, key=lambda shape: (shape[0] * shape[1], shape), reverse=True)
    texts = data.draw(st.integers(1, max_texts))
    longest = max_tokens if texts == 1 else min(max_tokens, max_padded // texts)
    if longest:
        assert buckets.shape_for(texts, data.draw(st.integers(1, longest))) in prepared


def test_a_cpu_is_asked_for_alone() -> None:
    assert providers(CPU) == [("CPUExecutionProvider", {})]


def test_cuda_gets_its_card_its_limit_and_its_graphs() -> None:
    (name, options), cpu = providers(
        RuntimeOptions("cuda", 1, GpuOptions(1, memory_limit_bytes=2**31, cuda_graphs=True))
    )
    assert name == "CUDAExecutionProvider"
    assert options["device_id"] == "1"
    assert options["gpu_mem_limit"] == str(2**31)
    assert options["enable_cuda_graph"] == "1"
    assert cpu == ("CPUExecutionProvider", {})
    assert "gpu_mem_limit" not in providers(RuntimeOptions("cuda", 1))[0][1]


def test_tensorrt_gets_profiles_precision_and_a_cache_and_cuda_behind_it() -> None:
    gpu = GpuOptions(
        cuda_graphs=True, precision="fp16", engine_cache=Path("/cache/0a"), usual_texts=32, max_tokens=128
    )
    (name, options), (behind, cuda), _ = providers(RuntimeOptions("tensorrt", 1, gpu))
    assert (name, behind) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("1", "0")
    assert options["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1"
    assert options["trt_profile_opt_shapes"] == "input_ids:32x32,attention_mask:32x32"
    assert options["trt_profile_max_shapes"] == "input_ids:256x128,attention_mask:256x128"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "/cache/0a"
    assert (options["trt_cuda_graph_enable"], cuda["enable_cuda_graph"]) == ("1", "0")  # one of them captures


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("libcuda.so.1: cannot open shared object file: No such file", "the NVIDIA driver is not installed"),
        (
            "Failed to load libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open "
            "shared object file: No such file or directory",
            "the library libcublasLt.so.13 is missing",
        ),
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1",
            "the NVIDIA driver is older than the CUDA",
        ),
        ("CUDA failure 100: no CUDA-capable device is detected ; GPU=0", "no GPU is visible to CUDA"),
        ("CUDA failure 101: invalid device ordinal ; GPU=3", "gpu = 3: there is no such GPU"),
        (
            "BFCArena::AllocateRawInternal Available memory of 10 is smaller than requested bytes of 256",
            "GPU 3: its memory, or gpu-memory = 1048576 bytes, is not enough",
        ),
        ("CUDA failure 2: out of memory ; GPU=3", "GPU 3: its memory, or gpu-memory"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", "GPU 3: its memory, or gpu-memory"),
        ("something\n  new", "something new"),
    ],
)
def test_what_a_device_lacks_is_one_line(said: str, line: str) -> None:
    told = fault(said, GpuOptions(device_id=3, memory_limit_bytes=2**20))
    assert told.startswith(line)
    assert "\n" not in told


@pytest.fixture(scope="module")
def encoders(tiny_model: Path) -> tuple[OnnxEncoder, BoundEncoder]:
    graph = ModelDirectory.open(tiny_model).variant_file("int8")
    return OnnxEncoder(graph, HEADS, CPU), BoundEncoder(graph, HEADS, CPU, Buckets(MAX_TOKENS))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8), st.integers(1, MAX_TOKENS), st.integers(0, 2**32 - 1))
def test_bound_buffers_answer_as_fresh_ones(
    encoders: tuple[OnnxEncoder, BoundEncoder], texts: int, tokens: int, seed: int
) -> None:
    """Also when a shape comes again: what the batch before left in the buffers is not read."""
    fresh, bound = encoders
    shape = bound.shape_for(texts, tokens)
    ids = np.random.default_rng(seed).integers(0, 90, shape)
    mask = np.ones(shape, np.int64)
    expected = fresh.run(ids, mask)
    for name, logits in bound.run(ids, mask).items():
        assert np.array_equal(logits, expected[name])


def test_encoders_beside_one_another_share_weights_and_no_buffers(
    encoders: tuple[OnnxEncoder, BoundEncoder],
) -> None:
    """Each on a thread of its own, on the same shapes at the same time."""
    fresh, first = encoders
    bound = [first, *(first.beside() for _ in range(3))]
    assert {id(one._session) for one in bound} == {id(first._session)}

    def on_one(index: int) -> None:
        draw = np.random.default_rng(index)
        for _ in range(100):
            shape = first.shape_for(int(draw.integers(1, 5)), int(draw.integers(1, 17)))
            ids, mask = draw.integers(0, 90, shape), np.ones(shape, np.int64)
            expected = fresh.run(ids, mask)
            for name, logits in bound[index].run(ids, mask).items():
                assert np.array_equal(logits, expected[name])

    with ThreadPoolExecutor(len(bound)) as threads:
        list(threads.map(on_one, range(len(bound))))


def test_a_session_that_captures_graphs_is_one_thread_s(tiny_model: Path) -> None:
    graph = ModelDirectory.open(tiny_model).variant_file("int8")
    options = RuntimeOptions("cpu", 1, GpuOptions(cuda_graphs=True))
    first = BoundEncoder(graph, HEADS, options, Buckets(MAX_TOKENS))
    assert first.beside()._session is not first._session


@pytest.mark.parametrize(
    ("flags", "workers"),
    [
        ({"provider": "cuda"}, 2),
        ({"provider": "tensorrt"}, 2),
        ({"provider": "cuda", "cuda_graphs": True}, 1),
        ({"provider": "cuda", "scaler": "127.0.0.1:1"}, 1),
        ({"provider": "cuda", "cuda_graphs": True, "engine_workers": 3}, 3),
    ],
)
def test_a_second_worker_prepares_while_a_card_computes(flags: dict[str, object], workers: int) -> None:
    assert workers_of(ServeSettings.of_flags(**flags)) == workers
