"""When a policy's status is worth a write: at once where something is told, seldom where numbers moved. Pure.

Owns what counts as telling. Called by `status_writes` for each policy and round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler.kube.spelling import unix_s

NOISE_EVERY_S = 15.0  # numbers that moved alone
STILL_THERE_EVERY_S = 300.0  # nothing moved: that somebody looks is worth a write now and then


def worth_writing(before: Mapping[str, Any] | None, after: Mapping[str, Any], now_s: float) -> bool:
    """At once where a decision, a condition or the policy in force changed; else as seldom as numbers need.

    `now_s`: unix time.
    """
    if not before or _telling(before) != _telling(after):
        return True
    written_s = unix_s(str(before.get("updated", "")))
    if written_s is None or written_s > now_s + STILL_THERE_EVERY_S:  # a clock was put back
        return True
    same = {**before, "updated": None} == {**after, "updated": None}
    return now_s - written_s >= (STILL_THERE_EVERY_S if same else NOISE_EVERY_S)


def _telling(status: Mapping[str, Any]) -> tuple[Any, ...]:
    decision, point = _part(status, "decision"), _part(status, "operatingPoint")
    conditions = status.get("conditions")
    return (
        status.get("observedGeneration"),
        status.get("generationInForce"),
        status.get("fence"),
        status.get("lastScaling"),
        (decision.get("action"), decision.get("desired"), point.get("version")),
        [
            (one.get("type"), one.get("status"), _ever(one.get("reason")), one.get("observedGeneration"))
            for one in (conditions if isinstance(conditions, list) else ())
            if isinstance(one, Mapping)
        ],
    )


def _ever(reason: Any) -> Any:
    """Where requests are few there is a p99 in one second and none in the next."""
    return "SloMet" if reason == "NoTraffic" else reason


def _part(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}
