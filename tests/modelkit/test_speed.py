"""Rounds of several graphs run in turn on the same batches; joules are those read around a round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modelkit.card.measurements import comparisons, timing
from modelkit.card.speed import Round, interleaved
from modelkit.inference import Floats, Ids


class Recorder:
    """A graph that answers nothing, and says when it was run on what."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self._name, self._log = name, log

    def run(self, ids: Ids, mask: Ids) -> tuple[Floats, Floats]:
        self._log.append((self._name, int(ids[0, 0])))
        return np.zeros((1, 2), np.float32), np.zeros((1, 1, 3), np.float32)


def batch(number: int) -> tuple[Ids, Ids]:
    return np.full((1, 1), number, np.int64), np.ones((1, 1), np.int64)


def test_every_round_of_each_graph_runs_the_same_batches_in_turn() -> None:
    log: list[tuple[str, int]] = []
    graphs = {name: Recorder(name, log) for name in ("a", "b")}
    found = interleaved(graphs, [batch(1), batch(2)], rounds=2, calls=3)
    ran = {name: [(name, number) for number in (1, 2, 1)] for name in graphs}
    assert log == [*ran["a"], *ran["b"], *ran["b"], *ran["a"]]
    assert {name: [len(one.calls_s) for one in rounds] for name, rounds in found.items()} == {
        "a": [3, 3],
        "b": [3, 3],
    }
    assert all(one.joules is None for rounds in found.values() for one in rounds)


def test_the_joules_of_a_round_are_those_between_its_readings() -> None:
    readings: Iterator[tuple[float, float] | None] = iter([(10.0, 0.0), (14.0, 2.0), (20.0, 5.0), None])
    [first, second] = interleaved({"a": Recorder("a", [])}, [batch(1)], 2, 1, lambda: next(readings))["a"]
    assert (first.joules, first.metered_s) == (4.0, 2.0)
    assert second.joules is None


def test_what_rounds_come_to() -> None:
    rounds = [Round((0.1, 0.1), 2.0, 0.25), Round((0.2, 0.2), 3.0, 0.5), Round((0.1, 0.3), 4.0, 0.5)]
    found = timing(5, None, rounds)
    assert (found.calls, found.p50_s) == (6, pytest.approx(0.15))
    assert (found.texts_per_s.low, found.texts_per_s.median, found.texts_per_s.high) == (
        pytest.approx(25),
        pytest.approx(25),
        pytest.approx(50),
    )
    assert found.joules_per_1000_texts is not None
    assert found.joules_per_1000_texts.median == pytest.approx(300)
    assert found.watts is not None
    assert (found.watts.low, found.watts.high) == (6.0, 8.0)
    unknown = timing(5, 16, [*rounds, Round((0.1,))])  # one round without joules: no sum of the others
    assert (unknown.joules_per_1000_texts, unknown.watts) == (None, None)


def test_variants_are_compared_round_by_round() -> None:
    busy = 3.0  # the second round of both fell into a busy time
    one = [Round((0.1,), 1.0, 0.1), Round((0.1 * busy,), busy, 0.3)]
    other = [Round((0.2,), 2.0, 0.2), Round((0.2 * busy,), 2 * busy, 0.6)]
    [pair] = comparisons(8, {"a": one, "b": other}, {"a": [True, True, False], "b": [True, False, False]})
    assert pair.accuracy.value == pytest.approx(1 / 3)
    assert (pair.one, pair.other) == ("a", "b")
    assert (pair.texts_per_s.low, pair.texts_per_s.high) == (pytest.approx(2), pytest.approx(2))
    assert pair.joules is not None
    assert (pair.joules.low, pair.joules.high) == (pytest.approx(0.5), pytest.approx(0.5))
