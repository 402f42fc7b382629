"""What ONNX Runtime is asked for, in its own words: providers in order, each with its options.

Pure. The names are those of
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html and
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html. Called by `onnx`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
INPUTS = ("input_ids", "attention_mask")
MOST_PREPARED_TEXTS = 256  # of TensorRT's profile: it takes no larger batch


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Of a CUDA or TensorRT session.

    memory_limit_bytes: of the arena, and of TensorRT's workspace; None: what the card has.
    precision: that TensorRT may compute in; int8 needs a graph with QuantizeLinear pairs.
    engine_cache: where TensorRT's engines and timings are kept; they cost minutes to build.
    usual_texts, max_tokens: TensorRT's engine is best at the first and takes every length up to the second.
    """

    device_id: int = 0
    memory_limit_bytes: int | None = None
    cuda_graphs: bool = False
    precision: str = "fp32"
    engine_cache: Path | None = None
    usual_texts: int = 16
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """provider: a key of PROVIDERS. threads: of one operator on a CPU."""

    provider: str
    threads: int
    gpu: GpuOptions = GpuOptions()


Provider = tuple[str, dict[str, str]]


def providers(options: RuntimeOptions) -> list[Provider]:
    """The one asked for and what it leaves work to: TensorRT leaves operators that it lacks to CUDA, and both
    leave shape arithmetic to the CPU."""
    cpu = (PROVIDERS["cpu"], dict[str, str]())
    if options.provider == "cpu":
        return [cpu]
    cuda = (PROVIDERS["cuda"], _cuda(options.gpu, graphs=options.provider == "cuda"))
    if options.provider == "cuda":
        return [cuda, cpu]
    return [(PROVIDERS["tensorrt"], _tensorrt(options.gpu)), cuda, cpu]


def _cuda(gpu: GpuOptions, graphs: bool) -> dict[str, str]:
    wanted = {
        "device_id": str(gpu.device_id),
        # The arena otherwise doubles: two replicas of one card would hold twice what they use.
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",  # 0 may race, says its documentation
        "enable_cuda_graph": _flag(graphs and gpu.cuda_graphs),
    }
    if gpu.memory_limit_bytes is not None:
        wanted["gpu_mem_limit"] = str(gpu.memory_limit_bytes)
    return wanted


def _tensorrt(gpu: GpuOptions) -> dict[str, str]:
    wanted = {
        "device_id": str(gpu.device_id),
        "trt_fp16_enable": _flag(
            gpu.precision in {"fp16", "int8"}
        ),  # int8 falls back to fp16, layer by layer
        "trt_int8_enable": _flag(gpu.precision == "int8"),
        "trt_cuda_graph_enable": _flag(gpu.cuda_graphs),
        "trt_profile_min_shapes": _shapes(1, 1),
        "trt_profile_opt_shapes": _shapes(gpu.usual_texts, min(32, gpu.max_tokens)),
        "trt_profile_max_shapes": _shapes(MOST_PREPARED_TEXTS, gpu.max_tokens),
    }
    if gpu.memory_limit_bytes is not None:
        wanted["trt_max_workspace_size"] = str(gpu.memory_limit_bytes)
    if gpu.engine_cache is not None:
        wanted |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(gpu.engine_cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(gpu.engine_cache),
        }
    return wanted


def _shapes(texts: int, tokens: int) -> str:
    return ",".join(f"{name}:{texts}x{tokens}" for name in INPUTS)


def _flag(on: bool) -> str:
    return "1" if on else "0"
