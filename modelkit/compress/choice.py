"""Chooses the quantization scheme that is shipped, from the scores on dev. Pure. Called by `package`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelkit.scoring.evaluate import BASELINE, VariantScore

MAX_LOSS = 0.003  # of accuracy or entity F1 against fp32, on dev: 0.005 are promised on other texts
MAX_COMPANY_CHANGE = 0.01  # of any probability
MIN_SPEED = 0.8  # of the fastest scheme that passes: likeness is worth a few joules, not a second replica


def choose(scores: Sequence[VariantScore]) -> str | None:
    """Of the schemes that pass, and are nearly as fast as any, the one that answers most like fp32.

    One passes when it keeps accuracy and F1 and its answers do not depend on the batch; None when none does.
    """
    baseline = next(score for score in scores if score.variant == BASELINE)
    passing = [score for score in scores if score is not baseline and _passes(score, baseline)]
    if not passing:
        return None
    fastest = max(map(_speed, passing))
    near = [score for score in passing if _speed(score) >= MIN_SPEED * fastest]
    return min(near, key=lambda score: (_difference(score), -_speed(score))).variant


def _passes(score: VariantScore, baseline: VariantScore) -> bool:
    return (
        _lost(baseline.accuracy, score.accuracy) <= MAX_LOSS
        and _lost(baseline.entity_f1, score.entity_f1) <= MAX_LOSS
        and score.company_label_flips == score.company_entity_flips == 0
        and score.company_largest_change <= MAX_COMPANY_CHANGE
    )


def _lost(before: float | None, after: float | None) -> float:
    """Nothing where the model has no such task."""
    return 0.0 if before is None or after is None else before - after


def _difference(score: VariantScore) -> float:
    """The shares of changed labels and of changed sets of entities, together.

    F1 on dev can't tell half a point: of 1,000 entities, 40 that change, each for better or worse, move it by
    0.6 points (the root of 40) to either side by luck alone, and to another side on another split. How many
    change is much the same on every split, and what does not change can't be lost.
    """
    if score.changed_labels is None or score.changed_entities is None:
        return math.inf
    return score.changed_labels + score.changed_entities


def _speed(score: VariantScore) -> float:
    return -math.inf if score.speed_vs_fp32 is None else score.speed_vs_fp32
