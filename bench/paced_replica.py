"""A `minwatt serve` whose engine takes a given time for a batch, and no CPU time.

    python -m bench.paced_replica ALPHA_MS BETA_US_PER_TOKEN [flag=value …]

The flags are those of `minwatt serve`. Everything but the model's computation is the real server's. It shows
what admission and batching do on a machine whose speed drifts; started by `overload --paced`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import event_loop
from service.fronts.supervisor import supervise
from service.lifecycle.loading import Makers
from service.runtime.options import RuntimeOptions
from service.server import run
from service.settings import ServeSettings


class PacedEncoder:
    """As `OnnxEncoder`; logits are zero."""

    alpha_s = 0.0
    beta_s_per_token = 0.0

    def __init__(self, _graph: Path, heads: Mapping[str, int], _options: RuntimeOptions) -> None:
        self._heads = heads

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        """Padded to nothing but the batch's longest text."""
        return texts, tokens

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


def main() -> None:
    alpha_ms, beta_us_per_token, *flags = sys.argv[1:]
    PacedEncoder.alpha_s, PacedEncoder.beta_s_per_token = (
        float(alpha_ms) * 1e-3,
        float(beta_us_per_token) * 1e-6,
    )
    given = dict(flag.split("=", 1) for flag in flags)
    settings = ServeSettings.of_flags(**{name.replace("-", "_"): value for name, value in given.items()})
    makers = Makers(encoder=PacedEncoder)

    def on_ready(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    if settings.front_ends:
        sys.exit(supervise(settings, on_ready, makers))
    event_loop.run(run(settings, on_ready, makers))


if __name__ == "__main__":
    main()
