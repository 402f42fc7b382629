"""What is shipped: never a scheme that loses or depends on its batch, else what answers most like fp32."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from modelkit.compress.choice import MAX_LOSS, MIN_SPEED, choose, verdicts
from modelkit.scoring.evaluate import VariantScore
from tests.modelkit.scores import score_of

FP32 = score_of("fp32", speed=1.0, changed=0.0)
FAILING = (
    score_of("inaccurate", 3.0, 0.0, accuracy=0.92),
    score_of("blind", 3.0, 0.0, f1=0.74),
    score_of("flips labels", 3.0, 0.0, company_label_flips=1),
    score_of("flips entities", 3.0, 0.0, company_entity_flips=1),
    score_of("drifts", 3.0, 0.0, company_largest_change=0.02),
)
PASSING = st.lists(st.tuples(st.floats(1.1, 3), st.floats(0, 0.1)), min_size=1, max_size=5).map(
    lambda rows: [score_of(f"scheme {i}", *row) for i, row in enumerate(rows)]
)


def test_the_one_most_like_fp32_is_chosen_of_those_that_are_nearly_as_fast_as_any() -> None:
    slow, alike, fast = (
        score_of("slow", 1.2, 0.005),
        score_of("alike", 2.1, 0.011),
        score_of("fast", 2.2, 0.03),
    )
    assert choose([FP32, slow, alike, fast, *FAILING]) == "alike"
    assert choose([FP32, slow, fast, *FAILING]) == "fast"
    assert choose([FP32, slow, *FAILING]) == "slow"


def test_a_better_score_on_dev_does_not_outweigh_changed_answers() -> None:
    lucky = score_of("lucky", 2.2, 0.03, accuracy=0.94, f1=0.77)
    assert choose([FP32, lucky, score_of("alike", 2.1, 0.011)]) == "alike"


def test_where_none_passes_none_is_chosen() -> None:
    assert choose([FP32, *FAILING]) is None
    assert choose([FP32]) is None


def test_of_each_it_is_said_why() -> None:
    slow, alike, fast = (
        score_of("slow", 1.2, 0.005),
        score_of("alike", 2.1, 0.011),
        score_of("fast", 2.2, 0.03),
    )
    stock = score_of("dynamic", 2.2, 0.0)
    half, depends = score_of("half", 0.5, 0.0), "answers depend on the batch"
    candidates = {"slow", "alike", "fast", *(score.variant for score in FAILING)}
    assert verdicts([alike, FP32, slow, fast, half, stock, *FAILING], candidates) == {
        "alike": "chosen: 1.37% of answers unlike fp32's, the least of those nearly as fast as any",
        "slow": "within the limits; 0.55 of the fastest's speed, below 0.8",
        "fast": "within the limits; 3.75% of answers unlike fp32's",
        "half": "within the limits; a variant of its own, if kept",
        "dynamic": f"within the limits on these texts; of others, {depends}: never kept",
        "inaccurate": "loses 0.0100 against fp32, more than 0.003",
        "blind": "loses 0.0100 against fp32, more than 0.003",
        "flips labels": f"{depends}: of 100 texts, 1 labels and 0 sets of entities change with it",
        "flips entities": f"{depends}: of 100 texts, 0 labels and 1 sets of entities change with it",
        "drifts": f"{depends}: a probability moves by 0.02, more than 0.01",
    }


@given(PASSING, st.integers())
def test_the_choice_is_fast_enough_and_does_not_depend_on_order(
    passing: list[VariantScore], seed: int
) -> None:
    scores = [FP32, *passing, *FAILING]
    name = choose(scores)
    [chosen] = [score for score in passing if score.variant == name]
    assert (chosen.speed_vs_fp32 or 0.0) >= MIN_SPEED * max(score.speed_vs_fp32 or 0.0 for score in passing)
    assert FP32.entity_f1 - chosen.entity_f1 <= MAX_LOSS
    random.Random(seed).shuffle(scores)
    again = next(score for score in passing if score.variant == choose(scores))
    assert (again.speed_vs_fp32, again.changed_entities) == (chosen.speed_vs_fp32, chosen.changed_entities)
