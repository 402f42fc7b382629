"""ONNX Runtime: the only file that imports it. Owns the session, its execution provider and its buffers.

Called by `engine` with collated batches. A provider that was asked for and is missing is an error, also
when ONNX Runtime itself would quietly fall back to the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from minwatt.v1.errors import UsageError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
INPUTS = ("input_ids", "attention_mask")
_WARNINGS_ARE_ERRORS_ONLY = (
    3  # ORT's severity scale: its warnings on graph details mean nothing to who serves
)


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """provider: a key of PROVIDERS. threads: of one operator; batches are computed one at a time."""

    provider: str
    threads: int


class OnnxEncoder:
    """One graph resident on one device: `input_ids`, `attention_mask` -> one output a head."""

    def __init__(self, graph: Path, heads: Mapping[str, int], options: RuntimeOptions) -> None:
        """`heads`: labels by output name. Raises UsageError when the provider is missing, or the graph is
        unreadable or not of this shape."""
        provider = PROVIDERS[options.provider]
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise _missing(options.provider, available)
        if options.provider != "cpu":
            onnxruntime.preload_dlls()  # finds CUDA and cuDNN where they came as Python packages
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _WARNINGS_ARE_ERRORS_ONLY
        # Spinning threads would burn watts while nothing is to be computed.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), settings, providers=_with_fallbacks(provider)
            )
        except Exception as error:  # ORT raises a dozen own types that share no public base
            raise UsageError(
                f"{graph}: ONNX Runtime can't load it: {' '.join(str(error).split())[:300]}"
            ) from error
        if provider not in self._session.get_providers():
            raise _missing(options.provider, self._session.get_providers())
        problem = _misfit(self._session, heads)
        if problem is not None:
            raise UsageError(f"{graph}: {problem}")
        self._outputs = tuple(heads)

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        return texts, tokens

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        """The heads' logits of a batch by output name; inputs are int64 [texts, tokens]."""
        binding = self._session.io_binding()
        for name, values in zip(INPUTS, (input_ids, attention_mask), strict=True):
            binding.bind_cpu_input(name, values)
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))


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


def _with_fallbacks(provider: str) -> list[str]:
    """TensorRT leaves operators it lacks to CUDA, and both leave shape arithmetic to the CPU."""
    order = [PROVIDERS["tensorrt"], PROVIDERS["cuda"], PROVIDERS["cpu"]]
    return order[order.index(provider) :]


def _missing(asked: str, available: Sequence[str]) -> UsageError:
    there = ", ".join(name for name, provider in PROVIDERS.items() if provider in available)
    hint = "" if asked == "cpu" else "; install onnxruntime-gpu and a matching driver"
    return UsageError(f"provider = {asked!r}: not available here; available: {there}{hint}")
