"""docs/policy.md is what the schemas say, and says it all."""

from __future__ import annotations

from pathlib import Path

from scaler.kube import policy_page
from scaler.kube.conditions import MEANINGS, REASONS
from scaler.kube.policy_object import PAUSED, PROFILE, REPLICAS

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_fresh() -> None:
    written = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    assert written == policy_page.page(), "python -m scaler.kube.policy_page > docs/policy.md"


def test_fields_annotations_and_conditions_are_there() -> None:
    page = policy_page.page()
    for field in (
        "spec",
        "`slo.latency`",
        "`power.whenOverBudget`",
        "`behavior.scaleDown.stabilizationWindow`",
    ):
        assert field in page
    assert "| `slo.errorBudget` | 0% to 50% | `0.1%` |" in page
    assert "| `replicas.max` | 1 to 10000 | required |" in page
    assert "| `decision.reasons[].code` |" in page
    assert all(name in page for name in (PAUSED, REPLICAS, PROFILE))
    assert set(MEANINGS) == set(REASONS)
