"""Runs graphs against one another in interleaved rounds, so that a busy machine slows all alike.

Owns the rounds: their time and, where a meter is given, their joules. Leaves what the graphs answer to
`evaluate`, what the rounds say of a variant to `measurements`. Called by `evaluate` and `run`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from modelkit.inference import Ids, Runner

# Joules since some beginning and the second they were read at; None while they are unknown.
ReadJoules = Callable[[], tuple[float, float] | None]


@dataclass(frozen=True)
class SpeedOptions:
    """Which batches are timed: each (texts, tokens) shape, `rounds` times in turn for every graph."""

    shapes: tuple[tuple[int, int], ...] = ((1, 16), (8, 16), (32, 16), (1, 64), (8, 64), (32, 64))
    rounds: int = 7
    seed: int = 1


STANDARD_SPEED = SpeedOptions()


@dataclass(frozen=True)
class Round:
    """Calls of one graph, one after the other. `joules` over `metered_s`; None where the meter had none."""

    calls_s: tuple[float, ...]
    joules: float | None = None
    metered_s: float = 0.0


def no_joules() -> None:
    """Where nothing is metered."""


def interleaved(
    graphs: Mapping[str, Runner],
    batches: Sequence[tuple[Ids, Ids]],
    rounds: int,
    calls: int,
    read_joules: ReadJoules = no_joules,
) -> dict[str, list[Round]]:
    """`rounds` rounds of each graph in turn, every round the same `calls` batches (of `batches`, again and
    again), in the one order and then in the other, so that none always follows the same.
    """
    found: dict[str, list[Round]] = {name: [] for name in graphs}
    for number in range(rounds):
        names = list(graphs)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            found[name].append(_round(graphs[name], list(islice(cycle(batches), calls)), read_joules))
    return found


def _round(graph: Runner, batches: Sequence[tuple[Ids, Ids]], read_joules: ReadJoules) -> Round:
    calls_s = []
    before = read_joules()
    for ids, mask in batches:
        started_s = time.perf_counter()
        graph.run(ids, mask)
        calls_s.append(time.perf_counter() - started_s)
    after = read_joules()
    if before is None or after is None:
        return Round(tuple(calls_s))
    return Round(tuple(calls_s), after[0] - before[0], after[1] - before[1])


def random_batch(shape: tuple[int, int], token_ids: Sequence[int], seed: int) -> tuple[Ids, Ids]:
    """Ids drawn from `token_ids` and their mask, [texts, tokens] each, without padding."""
    ids = np.random.default_rng(seed).choice(np.asarray(token_ids, np.int64), shape)
    return ids, np.ones_like(ids)


def relative_speeds(
    graphs: Mapping[str, Runner], baseline: str, token_ids: Sequence[int], options: SpeedOptions
) -> dict[str, float]:
    """How many times faster than `baseline` each graph runs: the geometric mean over the shapes.

    Texts are drawn from `token_ids`.
    A shape's time is the least of its rounds: other load on the machine only ever adds to it.
    """
    logarithms = dict.fromkeys(graphs, 0.0)
    for number, shape in enumerate(options.shapes):
        batch = random_batch(shape, token_ids, options.seed + number)
        rounds = interleaved(graphs, [batch], options.rounds, max(1, 256 // math.prod(shape)))
        best_s = {name: min(math.fsum(one.calls_s) for one in found) for name, found in rounds.items()}
        for name in graphs:
            logarithms[name] += math.log(best_s[baseline] / best_s[name]) / len(options.shapes)
    return {name: math.exp(value) for name, value in logarithms.items()}
