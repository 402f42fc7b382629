"""ONNX Runtime: the only file that imports it. Owns sessions, their execution providers and their buffers.

Called by `engine` with collated batches. A provider that was asked for and is missing is an error, also
when ONNX Runtime itself would quietly fall back to the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from minwatt.v1.errors import UsageError
from service.runtime.buckets import Buckets
from service.runtime.faults import fault
from service.runtime.options import INPUTS, PROVIDERS, GpuOptions, RuntimeOptions, providers

_WARNINGS_ARE_ERRORS_ONLY = (
    3  # ORT's severity scale: its warnings on graph details mean nothing to who serves
)

Ints = NDArray[np.int64]
Logits = Mapping[str, NDArray[np.float32]]


class OnnxEncoder:
    """One graph in a session on the CPU: `input_ids`, `attention_mask` -> one output a head.

    Several threads may call it at once where its session has one thread: each then computes by itself.
    """

    def __init__(self, graph: Path, heads: Mapping[str, int], options: RuntimeOptions) -> None:
        """`heads`: labels by output name. Raises UsageError when the provider is missing, or the graph is
        unreadable or not of this shape."""
        self._session = _session(graph, heads, options)
        self._outputs = tuple(heads)

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        """As it is: every shape costs what its tokens cost."""
        return texts, tokens

    def run(self, input_ids: Ints, attention_mask: Ints) -> Logits:
        """The heads' logits of a batch by output name; inputs are int64 [texts, tokens]."""
        binding = self._session.io_binding()
        for name, values in zip(INPUTS, (input_ids, attention_mask), strict=True):
            binding.bind_cpu_input(name, values)
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))


class BoundEncoder:
    """One graph resident on a device, with buffers there for each shape that it is prepared for.

    What is bound stays bound: a batch is copied into the inputs' buffers and the outputs are copied back.
    CUDA graphs are captured once a shape and replayed on those buffers. One thread at a time; another takes
    `beside`.
    """

    def __init__(
        self,
        graph: Path,
        heads: Mapping[str, int],
        options: RuntimeOptions,
        buckets: Buckets,
        session: onnxruntime.InferenceSession | None = None,
    ) -> None:
        """As OnnxEncoder's. `session`: that is there already, of the same graph and options."""
        self._graph, self._options = graph, options
        self._session = _session(graph, heads, options) if session is None else session
        self._heads = heads
        self._gpu = options.gpu
        self._device = "cpu" if options.provider == "cpu" else "cuda"
        self._pinned = None if self._device == "cpu" else _pinned_memory(options.gpu)
        self._buckets = buckets
        self._ranks = {output.name: len(output.shape) for output in self._session.get_outputs()}
        self._bound: dict[tuple[int, int], _Bound] = {}

    def beside(self) -> BoundEncoder:
        """For another thread: buffers of its own, and the same weights where that is allowed.

        Any number of threads may run a session at once, but not one that captures CUDA graphs, says the
        CUDA provider's documentation.
        """
        shared = None if self._gpu.cuda_graphs else self._session
        return BoundEncoder(self._graph, self._heads, self._options, self._buckets, shared)

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        """The bucket."""
        return self._buckets.shape_for(texts, tokens)

    def run(self, input_ids: Ints, attention_mask: Ints) -> Logits:
        """As OnnxEncoder's, for the shape of a bucket. The arrays are good until the next call."""
        try:
            texts, tokens = input_ids.shape
            bound = self._bound.get((texts, tokens)) or self._bind(texts, tokens)
            return bound.run(self._session, (input_ids, attention_mask))
        except Exception as error:  # ORT raises a dozen own types that share no public base
            raise RuntimeError(fault(str(error), self._gpu)) from error

    def _bind(self, texts: int, tokens: int) -> _Bound:
        shapes = {
            name: (texts, labels) if self._ranks[name] == 2 else (texts, tokens, labels)
            for name, labels in self._heads.items()
        }
        where = (self._device, self._gpu.device_id)
        bound = _Bound(
            self._session, (texts, tokens), shapes, where, self._pinned, graph_id=len(self._bound) + 1
        )
        self._bound[texts, tokens] = bound
        return bound


class _Bound:
    """The buffers of one shape, bound once."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, int],
        output_shapes: Mapping[str, tuple[int, ...]],
        where: tuple[str, int],
        pinned: object | None,
        graph_id: int,
    ) -> None:
        new = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._inputs = [new(shape, np.int64, *where) for _ in INPUTS]
        self._outputs = {name: new(size, np.float32, *where) for name, size in output_shapes.items()}
        self._staging = [None if pinned is None else new(shape, np.int64, memory_info=pinned) for _ in INPUTS]
        self._binding = session.io_binding()
        for name, value in zip(INPUTS, self._inputs, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def run(self, session: onnxruntime.InferenceSession, arrays: Sequence[Ints]) -> Logits:
        for value, staging, array in zip(self._inputs, self._staging, arrays, strict=True):
            if staging is None:
                value.update_inplace(array)
            else:
                np.copyto(staging.numpy(), array)
                value.update_inplace(staging)
        session.run_with_iobinding(self._binding, self._options)
        return {name: value.numpy() for name, value in self._outputs.items()}


def _pinned_memory(gpu: GpuOptions) -> object | None:
    """Page-locked host memory of the card's provider; None where this ONNX Runtime offers none."""
    for device in onnxruntime.get_ep_devices():
        memory = device.memory_info(onnxruntime.OrtDeviceMemoryType.HOST_ACCESSIBLE)
        if device.ep_name == PROVIDERS["cuda"] and memory is not None and memory.device_id == gpu.device_id:
            found: object = memory
            return found
    return None


def _session(graph: Path, heads: Mapping[str, int], options: RuntimeOptions) -> onnxruntime.InferenceSession:
    """Raises UsageError."""
    provider = PROVIDERS[options.provider]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise _missing(options.provider, available)
    if options.provider != "cpu":
        _load_libraries(options)
    if options.gpu.engine_cache is not None:
        options.gpu.engine_cache.mkdir(parents=True, exist_ok=True)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _WARNINGS_ARE_ERRORS_ONLY
    # A plan of the memory is kept for every shape that ever came: on a CPU, where each batch has its own.
    settings.enable_mem_pattern = options.provider != "cpu"
    # Spinning threads would burn watts while nothing is to be computed.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(graph), settings, providers=providers(options), enable_fallback=0
        )
    except Exception as error:  # ORT raises a dozen own types that share no public base
        raise UsageError(f"{graph}: ONNX Runtime can't load it: {fault(str(error), options.gpu)}") from error
    if provider not in session.get_providers():
        raise UsageError(f"provider = {options.provider!r}: ONNX Runtime does not use it; its log says why")
    problem = _misfit(session, heads)
    if problem is not None:
        raise UsageError(f"{graph}: {problem}")
    return session


def _load_libraries(options: RuntimeOptions) -> None:
    """The provider's and those that it needs. ONNX Runtime would only log what is missing.

    Raises UsageError.
    """
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # it prints what it doesn't find, which the system may have
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where they came as Python packages
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{options.provider}.so"))
    except OSError as error:
        why = fault(str(error), options.gpu)
        raise UsageError(f"provider = {options.provider!r}: can't be used here: {why}") from error


def _misfit(session: onnxruntime.InferenceSession, heads: Mapping[str, int]) -> str | None:
    """In what the graph differs from its model.yaml. A symbolic width is not known before the first batch."""
    inputs = {entry.name for entry in session.get_inputs()}
    if inputs != set(INPUTS):
        return f"its inputs are {', '.join(sorted(inputs))}; allowed: {', '.join(INPUTS)}"
    widths = {output.name: output.shape[-1] for output in session.get_outputs()}
    for name, labels in heads.items():
        if name not in widths:
            return f"output {name!r} of model.yaml is not in the graph; there: {', '.join(widths)}"
        if isinstance(widths[name], int) and widths[name] != labels:
            return f"output {name!r} has {widths[name]} columns, model.yaml has {labels} labels for it"
    return None


def _missing(asked: str, available: Sequence[str]) -> UsageError:
    there = ", ".join(name for name, provider in PROVIDERS.items() if provider in available)
    hint = "" if asked == "cpu" else "; install onnxruntime-gpu and a matching driver"
    return UsageError(f"provider = {asked!r}: not available here; available: {there}{hint}")
