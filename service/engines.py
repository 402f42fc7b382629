"""The engines of a model: as many sessions as the workers need, on the device the replica was told to use.

Called by `lifecycle.loading` for each model, and by `assembly`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from minwatt.v1.model_dir import ModelDirectory, ModelSpec
from service.collate import Shape
from service.cores import usable_cores
from service.engine import Encoder, Engine
from service.queue import MOST_TEXTS, BatchLimits
from service.runtime.buckets import Buckets
from service.runtime.onnx import BoundEncoder, OnnxEncoder
from service.runtime.options import MOST_PREPARED_TEXTS, GpuOptions, RuntimeOptions
from service.settings import ServeSettings
from service.warm_up import shapes
from service.workers import Engines

GPU_WORKERS = 2
MOST_DEFAULT_WORKERS = 8  # one event loop feeds them; beyond, replicas that share the port are surer


MakeEncoder = Callable[[Path, Mapping[str, int], RuntimeOptions], Encoder]


def open_engines(
    directory: ModelDirectory, variant: str, settings: ServeSettings, on_cpu: MakeEncoder = OnnxEncoder
) -> Engines:
    """One a worker; `on_cpu` makes encoders for the CPU. Raises UsageError.

    A session of one thread computes on the threads that call it, so workers on a CPU share one, and its
    weights. With several threads a session's pool would be shared too. On a GPU workers share a session, if
    they may, and each has buffers of its own.
    """
    spec, graph = directory.spec, directory.variant_file(variant)
    heads = {task.output: len(task.labels) for task in spec.tasks}
    options = _options(directory, variant, settings)
    workers = workers_of(settings)
    encoders: Sequence[Encoder]
    if settings.provider != "cpu":
        buckets = Buckets(spec.max_tokens)
        first = BoundEncoder(graph, heads, options, buckets)
        encoders = [first, *(first.beside() for _ in range(workers - 1))]
    elif settings.engine_threads == 1:
        encoders = [on_cpu(graph, heads, options)] * workers
    else:
        encoders = [on_cpu(graph, heads, options) for _ in range(workers)]
    return Engines(
        [Engine(encoder, spec.pad_token_id) for encoder in encoders], apart=settings.provider == "cpu"
    )


def warm_shapes(spec: ModelSpec, limits: BatchLimits, settings: ServeSettings) -> Sequence[Shape]:
    """What is computed before the first request: on a GPU, every shape that its buffers can be bound for."""
    if settings.provider == "cpu":
        return shapes(limits, spec.max_tokens)
    return Buckets(spec.max_tokens).all_within(limits.max_texts, limits.max_padded_tokens)


def most_texts(settings: ServeSettings) -> int:
    """Of a batch that the engines take."""
    return MOST_PREPARED_TEXTS if settings.provider == "tensorrt" else MOST_TEXTS


def workers_of(settings: ServeSettings) -> int:
    """By default all cores of a machine that is this replica's alone; in a fleet one, as its profile
    measured it. On a GPU two, so that one prepares its batch while the other's is computed; one with CUDA
    graphs, where the second would hold the weights again."""
    if settings.engine_workers is not None:
        return settings.engine_workers
    if settings.in_fleet:
        return 1
    if settings.provider != "cpu":
        return 1 if settings.cuda_graphs else GPU_WORKERS
    return max(1, min(MOST_DEFAULT_WORKERS, usable_cores() // settings.engine_threads))


def _options(directory: ModelDirectory, variant: str, settings: ServeSettings) -> RuntimeOptions:
    spec = directory.spec
    cache = None
    if settings.provider == "tensorrt":  # an engine belongs to its graph: another of that name has its own
        cache = settings.engine_cache / spec.variants[variant].sha256[:16]
    gpu = GpuOptions(
        device_id=settings.gpu,
        memory_limit_bytes=settings.gpu_memory,
        cuda_graphs=settings.cuda_graphs,
        precision=settings.tensorrt_precision,
        engine_cache=cache,
        usual_texts=settings.max_batch_texts,
        max_tokens=spec.max_tokens,
    )
    return RuntimeOptions(settings.provider, settings.engine_threads, gpu)
