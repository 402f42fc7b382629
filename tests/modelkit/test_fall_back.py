"""How many parts are left in float32: no more than need be, and none where that gains nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelkit.compress.fall_back import MAX_SHARE_LEFT, divergence, fewest_left, most_sensitive

COSTS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40)


@given(COSTS, st.floats(0.0, 5.0))
def test_the_fewest_that_suffice_are_left(costs: list[float], limit: float) -> None:
    names = [f"part {i}" for i in range(len(costs))]
    by_name = dict(zip(names, costs, strict=True))
    order = most_sensitive(names, by_name.__getitem__)
    assert [by_name[name] for name in order] == sorted(costs, reverse=True)
    asked: list[int] = []

    def loss(left: Sequence[str]) -> float:
        asked.append(len(left))
        assert list(left) == order[: len(left)]
        return sum(by_name[name] for name in order[len(left) :])

    before = sum(by_name[name] for name in order)
    left = fewest_left(order, loss, limit, before)
    most = math.ceil(MAX_SHARE_LEFT * len(names))
    assert len(left) <= most
    assert len(asked) == len(set(asked)) <= 2 * len(names).bit_length() + 1
    sufficient = [n for n in range(1, most + 1) if sum(by_name[name] for name in order[n:]) <= limit]
    if sufficient:
        assert len(left) == sufficient[0]
    else:
        rest = sum(by_name[name] for name in order[len(left) :])
        assert rest <= before


def test_where_nothing_is_gained_nothing_is_left() -> None:
    assert list(fewest_left(["a", "b", "c", "d"], lambda left: 0.5 + len(left), 0.1, 0.5)) == []


class Fixed:
    """Answers that are there already."""

    def __init__(self, intents: np.ndarray, tags: np.ndarray) -> None:
        self.logits = intents, tags

    def run(self, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.logits


@given(st.integers(0, 1000), st.floats(-3.0, 3.0))
def test_divergence_is_of_answers_and_not_of_padding(seed: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    intents, tags = generator.normal(size=(2, 3)), generator.normal(size=(2, 4, 5))
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0]])
    ids = np.ones_like(mask)
    elsewhere = tags.copy()
    elsewhere[1, 1:] = 100.0
    same = divergence(Fixed(intents + offset, elsewhere + offset), [(ids, mask)], [(intents, tags)])
    assert abs(same) < 1e-6
    other = divergence(Fixed(-intents, tags), [(ids, mask)], [(intents, tags)])
    assert other > 0
