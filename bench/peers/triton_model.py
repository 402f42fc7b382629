"""The model behind Triton's Python backend; each instance is a process of its own.

Triton imports it through the model repository that `catalogue` writes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from bench.peers.sizing import MODEL_VARIABLE
from bench.peers.support_text import SupportText


class TritonPythonModel:
    """`text` BYTES [n, 1] in; `label` BYTES [n, 1] and `score` FP32 [n, 1] out."""

    def initialize(self, _arguments: dict[str, str]) -> None:
        self._model = SupportText(Path(os.environ[MODEL_VARIABLE]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests of a dynamic batch are computed together."""
        asked = [
            [text.decode() for text in triton.get_input_tensor_by_name(request, "text").as_numpy()[:, 0]]
            for request in requests
        ]
        answers = iter(self._model.classify([text for texts in asked for text in texts]))
        return [self._response([next(answers) for _ in texts]) for texts in asked]

    def _response(self, answers: list[tuple[str, float]]) -> Any:
        labels = np.array([[label.encode()] for label, _ in answers], dtype=np.object_)
        scores = np.array([[score] for _, score in answers], dtype=np.float32)
        return triton.InferenceResponse([triton.Tensor("label", labels), triton.Tensor("score", scores)])
