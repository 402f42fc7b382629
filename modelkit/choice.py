"""Chooses the quantization scheme that is shipped, from the scores on dev. Pure. Called by `build`."""

from __future__ import annotations

from collections.abc import Sequence

from minwatt.v1.errors import UsageError
from modelkit.evaluate import BASELINE, VariantScore

MAX_LOSS = 0.003  # of accuracy or entity F1 against fp32, on dev: 0.005 are promised on other texts
MAX_COMPANY_CHANGE = 0.01  # of any probability


def choose(scores: Sequence[VariantScore]) -> str:
    """The fastest scheme that keeps accuracy and F1 and whose answers do not depend on the batch."""
    baseline = next(score for score in scores if score.variant == BASELINE)
    passing = [
        score
        for score in scores
        if score is not baseline
        and baseline.accuracy - score.accuracy <= MAX_LOSS
        and baseline.entity_f1 - score.entity_f1 <= MAX_LOSS
        and score.company_label_flips == score.company_entity_flips == 0
        and score.company_largest_change <= MAX_COMPANY_CHANGE
    ]
    if not passing:
        raise UsageError(
            f"no quantization scheme stays within {MAX_LOSS} of {BASELINE} on dev; see quantization.json"
        )
    return max(passing, key=lambda score: score.speed_vs_fp32 or 0.0).variant
