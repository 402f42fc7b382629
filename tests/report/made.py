"""A provenance that a test may know."""

from __future__ import annotations

from datetime import UTC, datetime

from report.provenance import Machine, Provenance

MADE_BY = Provenance(
    command="minwatt test",
    made_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    versions={"python": "3.13.0", "minwatt": "0.1.0"},
    machine=Machine(system="Linux", processor="A CPU", cores=2),
    watts="modelled",
)
