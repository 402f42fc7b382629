"""An answer that is no number is no answer: it passes no tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from minwatt.v1.model_dir import Task

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("transformers", reason="training needs the train extra")


@pytest.mark.parametrize("of", ["graph", "both"])
def test_logits_that_are_no_numbers_are_not_within_any_tolerance(of: str) -> None:
    from modelkit.release.parity import parity

    intent = Task(name="intent", kind="classification", output="intent_logits", labels=("a", "b"))
    nothing = np.full((2, 2), np.nan, np.float32)

    class Network:
        tasks = (intent,)

        def __call__(self, ids: object, mask: object) -> list[object]:
            return [torch.from_numpy(nothing if of == "both" else np.eye(2, dtype=np.float32))]

    class Graph:
        def answers(self, ids: object, mask: object) -> dict[str, object]:
            return {"intent_logits": nothing}

    ids = np.ones((2, 3), np.int64)
    found = parity(Network(), Graph(), [(ids, ids)] * 2)  # type: ignore[arg-type]
    assert not found.logit <= 1e9
    assert not found.probability <= 1
