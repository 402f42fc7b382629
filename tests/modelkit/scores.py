"""Scores of made-up variants."""

from __future__ import annotations

from modelkit.scoring.evaluate import VariantScore


def score_of(
    variant: str, speed: float, changed: float, accuracy: float = 0.93, f1: float = 0.75, **other: float
) -> VariantScore:
    """`changed` is the share of changed sets of entities; a quarter as many labels change."""
    score = VariantScore(
        variant=variant,
        accuracy=accuracy,
        entity_precision=f1,
        entity_recall=f1,
        entity_f1=f1,
        changed_labels=changed / 4,
        changed_entities=changed,
        company_texts=100,
        company_label_flips=0,
        company_entity_flips=0,
        company_largest_change=0.0,
        speed_vs_fp32=speed,
        size_mb=1.0,
    )
    return score.model_copy(update=other)
