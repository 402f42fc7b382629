"""The model behind MLServer: adaptive batches, inference in a pool of processes.

MLServer imports it by the name in the model's settings, which `catalogue` writes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.sizing import MODEL_VARIABLE
from bench.peers.support_text import SupportText


class SupportTextRuntime(MLModel):
    """`text` BYTES [n, 1] in; `label` BYTES [n, 1] and `score` FP32 [n, 1] out."""

    async def load(self) -> bool:
        self._model = SupportText(Path(os.environ[MODEL_VARIABLE]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self._model.classify(StringCodec.decode_input(payload.inputs[0]))
        scores = np.array([[score] for _, score in answers], dtype=np.float32)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", [label for label, _ in answers]),
                NumpyCodec.encode_output("score", scores),
            ],
        )
