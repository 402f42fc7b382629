"""`python -m scripts.dashboard`: writes the dashboard anew. A test fails when it is stale."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.dashboard.control import DECISIONS, NODE_AGENT
from scripts.dashboard.outcome import SLO, WATTS
from scripts.dashboard.panels import dashboard
from scripts.dashboard.serving import BATCHING, REFUSALS

FILE = Path(__file__).resolve().parents[2] / "k8s" / "monitoring" / "dashboard.json"
ROWS = (SLO, WATTS, DECISIONS, BATCHING, REFUSALS, NODE_AGENT)


def written() -> str:
    return json.dumps(dashboard(ROWS), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
