"""Two models in turn: ratios of their rounds, and that only models of one tokenizer are compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.two_models import compare, ratios
from minwatt.v1.errors import UsageError
from modelkit.card.speed import Round
from tests.tiny_model import write_tiny_model

TIMES = st.lists(st.floats(0.01, 10), min_size=1, max_size=11)


@given(TIMES, st.floats(0.1, 10))
def test_a_model_that_takes_a_share_of_the_time_is_faster_by_it(times_s: list[float], faster: float) -> None:
    slow = [Round((one * faster, one * faster)) for one in times_s]
    fast = [Round((one, one)) for one in times_s]
    assert ratios(slow, fast) == pytest.approx((faster, faster, faster))


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_tiny_model(one)
    write_tiny_model(other)
    text = (other / "model.yaml").read_text()
    file = other / "tokenizer.json"
    file.write_text(file.read_text() + "\n")
    new = hashlib.sha256(file.read_bytes()).hexdigest()
    old = hashlib.sha256((one / "tokenizer.json").read_bytes()).hexdigest()
    (other / "model.yaml").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match="its tokenizer is not that of"):
        compare((one, other), tmp_path)
