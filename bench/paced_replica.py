"""A `minwatt serve` whose engine takes a given time for a batch, and no CPU time.

    python -m bench.paced_replica ALPHA_MS BETA_US_PER_TOKEN SERVE_OPTIONS…

Everything but the model's computation is the real server's. It shows what admission and batching do on a
machine whose speed drifts; started by `overload --paced`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import service.server
from minwatt.cli import main
from service.runtime.onnx import RuntimeOptions


class PacedEncoder:
    """As `OnnxEncoder`; logits are zero."""

    alpha_s = 0.0
    beta_s_per_token = 0.0

    def __init__(self, _graph: Path, heads: Mapping[str, int], _options: RuntimeOptions) -> None:
        self._heads = heads

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        time.sleep(self.alpha_s + self.beta_s_per_token * attention_mask.size)
        texts, tokens = input_ids.shape
        return {
            name: np.zeros(
                (texts, width) if name.startswith("intent") else (texts, tokens, width), np.float32
            )
            for name, width in self._heads.items()
        }


if __name__ == "__main__":
    PacedEncoder.alpha_s, PacedEncoder.beta_s_per_token = float(sys.argv[1]) * 1e-3, float(sys.argv[2]) * 1e-6
    setattr(service.server, "OnnxEncoder", PacedEncoder)  # noqa: B010 - mypy has no word for a replaced import
    main(["serve", *sys.argv[3:]])
