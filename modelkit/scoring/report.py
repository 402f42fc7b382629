"""Shows evaluation and fine-tuning reports as terminal tables. Called by `commands`."""

from __future__ import annotations

from rich.table import Table

from modelkit.scoring.evaluate import EvaluationReport, VariantScore
from modelkit.scoring.finetune_report import FinetuneReport
from modelkit.scoring.task_scores import TaskScore

UNKNOWN = "–"  # there is no fp32 to compare with, or no such task
COLUMNS = ("variant", "MB", "intents", "F1", "unlike", "flips", "drift", "speed")
CAPTION = (
    "intents: accuracy; F1: of entities; unlike: labels/sets of entities that differ from fp32's; flips: "
    "those, of {texts} texts, that change with the batch a text is in; drift: the largest such change of a "
    "probability; speed: relative to fp32, in one interleaved run on one thread"
)


def report_table(report: EvaluationReport) -> Table:
    """One row a variant, within 80 columns."""
    sets = " and ".join(report.sets.values())
    size = f"{report.texts} texts, {report.sentences} sentences"
    table = Table(
        title=f"{report.model} {report.version} on {sets}, {report.split} ({size})",
        title_justify="left",
        caption=CAPTION.format(texts=report.variants[0].company_texts),
        caption_justify="left",
    )
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for score in report.variants:
        table.add_row(*_cells(score))
    return table


def task_table(score: TaskScore, confusions: int = 3) -> Table:
    """One row a label, the worst F1 first; below it, what is mistaken most often."""
    of_all = f"macro F1 {score.macro_f1:.4f}, {score.examples} examples"
    metric = "F1 of exact entities" if score.kind == "ner" else "accuracy"
    mistaken = [f"{one.truth} as {one.answer} {one.texts}×" for one in score.confusions[:confusions]]
    table = Table(
        title=f"{score.task} on {score.split}: {metric} {score.score:.4f}, {of_all}",
        title_justify="left",
        caption="answered otherwise most often: " + ", ".join(mistaken) if mistaken else None,
        caption_justify="left",
    )
    for number, column in enumerate(("label", "precision", "recall", "F1", "support")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for one in sorted(score.labels, key=lambda one: (one.f1, one.label)):
        shares = (f"{share:.4f}" for share in (one.precision, one.recall, one.f1))
        table.add_row(one.label, *shares, str(one.support))
    return table


def forgetting_table(report: FinetuneReport) -> Table:
    """One row a file of earlier texts."""
    table = Table(title="earlier texts, before and after", title_justify="left")
    for number, column in enumerate(("task", "file", "texts", "before", "after", "lost")):
        table.add_column(column, justify="right" if number > 1 else "left", overflow="fold")
    for one in report.forgetting:
        scores = (f"{score:.4f}" for score in (one.before, one.after, one.lost))
        table.add_row(one.task, one.file, str(one.examples), *scores)
    return table


def _cells(score: VariantScore) -> tuple[str, ...]:
    return (
        score.variant,
        f"{score.size_mb:.1f}",
        UNKNOWN if score.accuracy is None else f"{score.accuracy:.4f}",
        UNKNOWN if score.entity_f1 is None else f"{score.entity_f1:.4f}",
        _unlike(score),
        f"{score.company_label_flips}/{score.company_entity_flips}",
        f"{score.company_largest_change:.1g}",
        UNKNOWN if score.speed_vs_fp32 is None else f"{score.speed_vs_fp32:.2f}",
    )


def _unlike(score: VariantScore) -> str:
    if score.changed_labels is None or score.changed_entities is None:
        return UNKNOWN
    return f"{100 * score.changed_labels:.1f}/{100 * score.changed_entities:.1f}%"
