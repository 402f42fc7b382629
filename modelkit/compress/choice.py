"""Chooses the quantization scheme that is shipped, from the scores on dev. Pure. Called by `package`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from modelkit.compress.catalogue import CATALOGUE, scheme_of
from modelkit.scoring.evaluate import BASELINE, VariantScore

MAX_LOSS = 0.003  # of accuracy or entity F1 against fp32, on dev: 0.005 are promised on other texts
MAX_COMPANY_CHANGE = 0.01  # of any probability
MIN_SPEED = 0.8  # of the fastest scheme that passes: likeness is worth a few joules, not a second replica

NONE_PASSES = f"no scheme stays within {MAX_LOSS} of {BASELINE} on dev and answers alike in any batch"


def choose(scores: Sequence[VariantScore]) -> str | None:
    """Of the schemes that pass, and are nearly as fast as any, the one that answers most like fp32.

    One passes when it keeps accuracy and F1 and its answers do not depend on the batch; None when none does.
    """
    near = _near(scores)
    if not near:
        return None
    return min(near, key=lambda score: (_difference(score), -_speed(score))).variant


def verdicts(scores: Sequence[VariantScore], candidates: Collection[str]) -> dict[str, str]:
    """Of each scheme, why it is the chosen one of `candidates` or not, in a line."""
    baseline, *others = _with_baseline(scores)
    running = [baseline, *(score for score in others if score.variant in candidates)]
    chosen, near = choose(running), _near(running)
    fastest = max(map(_speed, near), default=math.nan)
    said = {}
    for score in others:
        if fault := company_fault(score) or loss_fault(score, baseline):
            said[score.variant] = fault
        elif score.variant not in candidates:
            said[score.variant] = _beside(score)
        elif score.variant == chosen:
            said[score.variant] = f"chosen: {_unlike(score)}, the least of those nearly as fast as any"
        elif score in near:
            said[score.variant] = f"within the limits; {_unlike(score)}"
        else:
            share = _speed(score) / fastest
            said[score.variant] = f"within the limits; {share:.2f} of the fastest's speed, below {MIN_SPEED}"
    return said


def _beside(score: VariantScore) -> str:
    """Of a scheme that passes and is no candidate."""
    scheme = CATALOGUE.get(scheme_of(score.variant))
    if scheme is not None and not scheme.served:
        return "within the limits on these texts; of others, answers depend on the batch: never kept"
    return "within the limits; a variant of its own, if kept"


def company_fault(score: VariantScore) -> str | None:
    """Where answers depend on the batch they are given in, how; no variant that does is ever written."""
    flips = f"{score.company_label_flips} labels and {score.company_entity_flips} sets of entities"
    if score.company_label_flips or score.company_entity_flips:
        return f"answers depend on the batch: of {score.company_texts} texts, {flips} change with it"
    if score.company_largest_change > MAX_COMPANY_CHANGE:
        change = f"{score.company_largest_change:.2g}, more than {MAX_COMPANY_CHANGE}"
        return f"answers depend on the batch: a probability moves by {change}"
    return None


def loss(score: VariantScore, baseline: VariantScore) -> float:
    """Of accuracy or F1 against fp32, the larger; negative where both are better."""
    return max(
        _lost(baseline.accuracy, score.accuracy),
        _lost(baseline.entity_f1, score.entity_f1),
    )


def loss_fault(score: VariantScore, baseline: VariantScore) -> str | None:
    """Where a scheme's drop is over the limit, how large it is."""
    lost = loss(score, baseline)
    return f"loses {lost:.4f} against {BASELINE}, more than {MAX_LOSS}" if lost > MAX_LOSS else None


def _near(scores: Sequence[VariantScore]) -> list[VariantScore]:
    """Those that pass and are nearly as fast as the fastest of them."""
    baseline, *others = _with_baseline(scores)
    passing = [score for score in others if _passes(score, baseline)]
    fastest = max(map(_speed, passing), default=math.nan)
    return [score for score in passing if _speed(score) >= MIN_SPEED * fastest]


def _with_baseline(scores: Sequence[VariantScore]) -> list[VariantScore]:
    """fp32 first."""
    return sorted(scores, key=lambda score: score.variant != BASELINE)


def _passes(score: VariantScore, baseline: VariantScore) -> bool:
    return company_fault(score) is None and loss_fault(score, baseline) is None


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


def _unlike(score: VariantScore) -> str:
    return f"{100 * _difference(score):.2f}% of answers unlike {BASELINE}'s"


def _speed(score: VariantScore) -> float:
    return -math.inf if score.speed_vs_fp32 is None else score.speed_vs_fp32
