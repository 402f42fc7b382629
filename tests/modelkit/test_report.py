"""Tables fit a terminal of 80 columns, and what is unknown is not shown as zero."""

from __future__ import annotations

from rich.console import Console

from modelkit.scoring.evaluate import EvaluationReport, VariantScore
from modelkit.scoring.report import report_table
from tests.modelkit.scores import score_of


def shown(*scores: VariantScore) -> str:
    console = Console(width=80)
    report = EvaluationReport(
        model="support-text",
        version="1",
        split="dev",
        sets={"intent": "banking77", "entities": "uner_ewt"},
        texts=965,
        sentences=2001,
        variants=scores,
    )
    with console.capture() as capture:
        console.print(report_table(report))
    return capture.get()


def test_even_a_bad_scheme_fits() -> None:
    bad = score_of("weight_only", 10.0, 0.999, company_label_flips=100, company_entity_flips=100)
    drifting = score_of("dynamic", 2.0, 0.01, company_largest_change=2e-07)
    text = shown(bad, drifting)
    assert "…" not in text
    for cell in ("25.0/99.9%", "100/100", "10.00", "0.2/1.0%", "2e-07"):
        assert f" {cell} " in text


def test_without_fp32_what_compares_with_it_is_unknown() -> None:
    alone = score_of("int8", 1.0, 0.0)
    unknown = {"speed_vs_fp32": None, "changed_labels": None, "changed_entities": None}
    assert shown(alone.model_copy(update=unknown)).count(" – ") == 2
    assert " – " not in shown(alone)
