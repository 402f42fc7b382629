"""The whole controller against a stand-in API server, minutes in a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, workload
from tests.scaler.kube.made_objects import policy_object


def policy(name: str = "support-text", **changes: object) -> dict[str, object]:
    made = policy_object(name, **changes)  # type: ignore[arg-type]
    for server_made in ("uid", "generation", "creationTimestamp", "resourceVersion"):
        del made["metadata"][server_made]
    return made


def test_it_scales_a_deployment_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(case: Scenario) -> None:
        case.api.apply(workload(replicas=2), policy())
        async with case.control():
            await case.until(lambda: case.condition("Ready") == ("True", "SloMet"), "Ready")
            assert case.replicas() == 2
            case.hub.fleets[f"{NAMESPACE}/support-text"].rate_rps = 600.0
            await case.until(lambda: case.replicas() > 3, "scaled up")
            await case.until(lambda: "ScaledUp" in case.events(), "told")
            status = case.status()
            assert status["replicas"]["current"] == case.replicas()
            assert case.hub.fleets[f"{NAMESPACE}/support-text"].points
        lease = case.api.find("leases", NAMESPACE, "minwatt-scaler")
        assert "holderIdentity" not in lease["spec"]

    play(tmp_path, monkeypatch, story)
