"""Shows evaluation reports as terminal tables. Called by `cli` and `build`."""

from __future__ import annotations

from rich.table import Table

from modelkit.evaluate import EvaluationReport, VariantScore

COLUMNS = ("variant", "MB", "accuracy", "entity F1", "flips", "change", "speed")
CAPTION = (
    "flips: labels / sets of entities that change with the batch a text is in; change: the largest of a "
    "probability; speed: relative to fp32, in one interleaved run on one thread"
)


def report_table(report: EvaluationReport) -> Table:
    """One row a variant, within 80 columns."""
    sets = " and ".join(report.sets.values())
    size = f"{report.texts} texts, {report.sentences} sentences"
    table = Table(
        title=f"{report.model} {report.version} on {sets}, {report.split} ({size})",
        title_justify="left",
        caption=CAPTION,
        caption_justify="left",
    )
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for score in report.variants:
        table.add_row(*_cells(score))
    return table


def _cells(score: VariantScore) -> tuple[str, ...]:
    speed = "–" if score.speed_vs_fp32 is None else f"{score.speed_vs_fp32:.2f}"
    return (
        score.variant,
        f"{score.size_mb:.1f}",
        f"{score.accuracy:.4f}",
        f"{score.entity_f1:.4f}",
        f"{score.company_label_flips} / {score.company_entity_flips} of {score.company_texts}",
        f"{score.company_largest_change:.1g}",
        speed,
    )
