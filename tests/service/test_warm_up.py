"""Which batches are computed before the first request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.queue import BatchLimits
from service.warm_up import shapes


@given(st.integers(1, 4096), st.integers(8, 100_000), st.integers(8, 4096))
def test_shapes_keep_the_limits_and_reach_the_bounds(
    max_texts: int, max_padded: int, max_tokens: int
) -> None:
    computed = shapes(BatchLimits(max_texts, max_padded, 0.0), max_tokens)
    assert (1, max_tokens) in computed
    assert all(texts <= max_texts and tokens <= max_tokens for texts, tokens in computed)
    assert all(texts * tokens <= max_padded or texts == 1 for texts, tokens in computed)
    sizes = [texts * tokens for texts, tokens in computed]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(computed)) == len(computed)
