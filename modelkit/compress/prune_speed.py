"""How much faster a pruned graph runs than the unpruned one, and how sure that is.

Owns the loads and what rounds come to. Leaves the rounds themselves to `card.speed`. Called by `prune`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from minwatt.v1.decode import EncodedText
from modelkit.card.speed import Round, interleaved
from modelkit.compress.prune_report import Speed
from modelkit.inference import Runner, pad
from modelkit.scoring.intervals import Spread

LOADS = (1, 8)  # texts of a batch
ROUNDS = 9
BATCHES = 32  # of a round, the same in each

_UNPRUNED, _AGAIN, _PRUNED = "unpruned", "unpruned again", "pruned"


def measured_speed(
    unpruned: Runner, pruned: Runner, texts: Sequence[EncodedText], seed: int
) -> tuple[Speed, ...]:
    """Of each load, on batches of `texts` in their own lengths; one thread."""
    return tuple(_speed(unpruned, pruned, texts, load, seed) for load in LOADS)


def speed_of(texts: int, rounds: Mapping[str, Sequence[float]]) -> Speed:
    """From each round's seconds of the unpruned graph, of itself again and of the pruned one."""
    base = rounds[_UNPRUNED]
    ratio, noise = (
        Spread.of([one / other for one, other in zip(base, rounds[name], strict=True)])
        for name in (_PRUNED, _AGAIN)
    )
    return Speed(texts=texts, ratio=ratio, noise=noise)


def _speed(unpruned: Runner, pruned: Runner, texts: Sequence[EncodedText], load: int, seed: int) -> Speed:
    generator = random.Random(seed)
    size = min(load, len(texts))
    batches = [pad(generator.sample(texts, size)) for _ in range(BATCHES)]
    graphs = {_UNPRUNED: unpruned, _PRUNED: pruned, _AGAIN: unpruned}
    interleaved(graphs, batches, 1, BATCHES)  # warms up
    found = interleaved(graphs, batches, ROUNDS, BATCHES)
    return speed_of(size, {name: [_seconds(one) for one in of_one] for name, of_one in found.items()})


def _seconds(one: Round) -> float:
    return math.fsum(one.calls_s)
