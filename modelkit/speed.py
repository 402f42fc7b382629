"""Times graphs against one another in one interleaved run, so that a busy machine slows all alike.

Leaves what the graphs answer to `evaluate`. Called by `evaluate`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelkit.inference import Graph


@dataclass(frozen=True)
class SpeedOptions:
    """Which batches are timed: each (texts, tokens) shape, `rounds` times in turn for every graph."""

    shapes: tuple[tuple[int, int], ...] = ((1, 16), (8, 16), (32, 16), (1, 64), (8, 64), (32, 64))
    rounds: int = 7
    seed: int = 1


STANDARD_SPEED = SpeedOptions()


def relative_speeds(
    graphs: Mapping[str, Graph], baseline: str, token_ids: Sequence[int], options: SpeedOptions
) -> dict[str, float]:
    """How many times faster than `baseline` each graph runs: the geometric mean over the shapes.

    Texts are drawn from `token_ids`.
    A shape's time is the least of its rounds: other load on the machine only ever adds to it.
    """
    generator = np.random.default_rng(options.seed)
    logarithms = dict.fromkeys(graphs, 0.0)
    for texts, tokens in options.shapes:
        ids = generator.choice(np.asarray(token_ids, np.int64), (texts, tokens))
        mask = np.ones_like(ids)
        best_s = dict.fromkeys(graphs, math.inf)
        repeats = max(1, 256 // (texts * tokens))
        for _ in range(options.rounds):
            for name, graph in graphs.items():
                started_s = time.perf_counter()
                for _ in range(repeats):
                    graph.run(ids, mask)
                best_s[name] = min(best_s[name], (time.perf_counter() - started_s) / repeats)
        for name in graphs:
            logarithms[name] += math.log(best_s[baseline] / best_s[name]) / len(options.shapes)
    return {name: math.exp(value) for name, value in logarithms.items()}
