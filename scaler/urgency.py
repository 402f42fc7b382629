"""What can't wait for a forecast: a backlog, a missed SLO, refusals beyond the error budget.

Pure. Called by `control` once a tick; its `at_least` raises what the plan wants, and never lowers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.decision import Reason, ReasonCode
from scaler.latency_sketch import Latencies
from scaler.levers import Limits
from scaler.signals import Signals

_SIGMAS = 3.0  # more slow requests than the percentile allows, and not by chance


@dataclass(frozen=True, slots=True)
class Urgency:
    at_least: int  # replicas; 0: no demand of its own
    backlog_texts: float  # beyond one batch of each ready replica
    reasons: tuple[Reason, ...]


def judge(seen: Signals, current: int, limits: Limits, error_budget: float) -> Urgency:
    """One replica more than now when the SLO is missed and no replica is on its way already."""
    reasons: list[Reason] = []
    backlog_texts = max(0, seen.queue_depth - seen.ready * limits.max_batch_texts)
    if backlog_texts:
        values: dict[str, float | int | str | None] = {"queue_depth": seen.queue_depth}
        reasons.append(Reason(ReasonCode.BACKLOG, f"{seen.queue_depth} texts wait", values))
    tail_s = missed_tail_s(seen.recent_latencies, limits)
    if tail_s is not None:
        message = (
            f"p{limits.percentile:g} {tail_s * 1e3:.0f} ms over the SLO {limits.slo_latency_s * 1e3:.0f} ms"
        )
        values = {"tail_s": tail_s, "slo_latency_s": limits.slo_latency_s}
        reasons.append(Reason(ReasonCode.SLO_MISSED, message, values))
    refused = seen.overload_refusals_rps / seen.arrivals_rps if seen.arrivals_rps > 0 else 0.0
    if refused > error_budget:
        message = f"{refused:.1%} refused, the error budget is {error_budget:.2%}"
        values = {"refused_fraction": refused, "error_budget": error_budget}
        reasons.append(Reason(ReasonCode.ERROR_BUDGET_SPENT, message, values))
    missed = tail_s is not None or refused > error_budget
    coming = current > seen.ready
    return Urgency(current + (not coming) if missed else 0, backlog_texts, tuple(reasons))


def missed_tail_s(latencies: Latencies | None, limits: Limits) -> float | None:
    """The tail, if more samples are over the SLO than the percentile allows by chance; else None.

    Of n samples n·m may be over, m = 1 - percentile, give or take 3·sqrt(n·m): of 100 at p99, not 1 but 5.
    """
    if latencies is None:
        return None
    allowed = latencies.count * (1 - limits.percentile / 100)
    allowed += _SIGMAS * math.sqrt(allowed) + 1
    if allowed >= latencies.count:
        return None
    if latencies.quantile_s(100 * (1 - allowed / latencies.count)) <= limits.slo_latency_s:
        return None
    return latencies.quantile_s(limits.percentile)
