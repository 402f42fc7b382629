"""What comes out: latency and failures against the SLO, watts against the budget. Values only."""

from __future__ import annotations

from scripts.dashboard.panels import Panel, Query, Row
from scripts.dashboard.queries import BY, FAULTS, MEAN, MET, MISSED, OF, OK, WHO, now, quantile, rate

SLO = Row(
    "Is the SLO held?",
    (
        Panel(
            "Error budget, burn rate over an hour",
            "1 spends the 30 days' budget in 30 days. From 14.4 on somebody is called.",
            "none",
            (
                Query(
                    f"{now('minwatt:slo_failures:ratio_rate1h')} / on (namespace, policy) "
                    f"{now('minwatt:error_budget:ratio')}",
                    WHO,
                ),
            ),
            kind="stat",
            steps=(1.0, 14.4),
            width=6,
        ),
        Panel(
            "Latency against the SLO",
            "At the server, from the door to the reply, of answered requests. Dashed: the SLO.",
            "s",
            (
                Query(quantile(0.5, "minwatt_request_duration_seconds", OK), f"p50 {WHO}"),
                Query(quantile(0.99, "minwatt_request_duration_seconds", OK), f"p99 {WHO}"),
                Query(f"{OF} ({now('minwatt_scaler_predicted_latency_p99_seconds')})", f"predicted {WHO}"),
                Query(f"{OF} ({now('minwatt_scaler_slo_latency_seconds')})", f"SLO {WHO}", bound=True),
            ),
            width=9,
        ),
        Panel(
            "Requests: in time, late, refused or failed",
            "What clients did wrong, quotas and cancellations are not counted as failures.",
            "reqps",
            (
                Query(f"{BY} ({rate('minwatt_slo_requests_total', MET)})", f"in time {WHO}"),
                Query(f"{BY} ({rate('minwatt_slo_requests_total', MISSED)})", f"late {WHO}"),
                Query(f"{BY} ({rate('minwatt_refusals_total', FAULTS)})", f"refused {WHO}"),
                Query(f"{BY} ({rate('minwatt_arrivals_total')})", f"arrived {WHO}", bound=True),
            ),
            stacked=True,
            width=9,
        ),
        Panel(
            "How latencies lie",
            "Answered requests of all chosen policies, by time at the server.",
            "s",
            (Query(f"sum by (le) ({rate('minwatt_request_duration_seconds_bucket', OK)})", "{{le}}"),),
            kind="heatmap",
            width=12,
        ),
        Panel(
            "Failures, by the window that alerts look at",
            "Dashed: the error budget, at which it would just last.",
            "percentunit",
            (
                Query(now("minwatt:slo_failures:ratio_rate5m"), f"5 m {WHO}"),
                Query(now("minwatt:slo_failures:ratio_rate1h"), f"1 h {WHO}"),
                Query(now("minwatt:slo_failures:ratio_rate6h"), f"6 h {WHO}"),
                Query(now("minwatt:slo_failures:ratio_rate3d"), f"3 d {WHO}"),
                Query(now("minwatt:error_budget:ratio"), f"budget {WHO}", bound=True),
            ),
            width=12,
        ),
    ),
)

WATTS = Row(
    "At how many watts?",
    (
        Panel(
            "Fleet against its budget",
            "Each device once. The legend says where watts come from: nvml and rapl are measured, modelled "
            "is an estimate. A gap: unknown.",
            "watt",
            (
                Query(
                    f"max by (namespace, policy, source) ({now('minwatt_scaler_watts')})",
                    f"{WHO}, {{{{source}}}}",
                ),
                Query(
                    f"max by (namespace, policy, basis) ({now('minwatt_scaler_predicted_watts')})",
                    f"predicted {WHO}, by {{{{basis}}}}",
                ),
                Query(f"{OF} ({now('minwatt_scaler_budget_watts')})", f"budget {WHO}", bound=True),
            ),
            width=10,
        ),
        Panel(
            "Of the budget",
            "Above 1 for longer than a tick: the ladder of whenOverBudget is at work.",
            "percentunit",
            (Query(f"{OF} ({now('minwatt_scaler_budget_used_ratio')})", WHO),),
            kind="stat",
            steps=(0.9, 1.0),
            width=4,
        ),
        Panel(
            "Joules a request",
            "All that the fleet drew, idle time too, over the requests that were answered.",
            "joule",
            (
                Query(
                    f"max by (namespace, policy, source) ({rate('minwatt_scaler_joules_total')}) "
                    f"/ on (namespace, policy) group_left () {BY} ({rate('minwatt_slo_requests_total')})",
                    f"{WHO}, {{{{source}}}}",
                ),
            ),
            width=10,
        ),
        Panel(
            "Where the joules go",
            "Requests, idle time, starts, and what could not be priced, of the replicas' own meters.",
            "watt",
            (
                Query(
                    f"sum by (part, source) ({rate('minwatt_apportioned_joules_total')})",
                    "{{part}}, {{source}}",
                ),
            ),
            stacked=True,
            width=10,
        ),
        Panel(
            "Replicas without watts",
            "Their meter gives none; the plan goes by the profile's.",
            "none",
            (Query(f"{BY} ({now('minwatt_meter_up')} == bool 0)", WHO),),
            kind="stat",
            steps=(1.0,),
            width=4,
        ),
        Panel(
            "Clock of the cards",
            "What the controller asks for, and what replicas have set; 0: left alone.",
            "hertz",
            (
                Query(f"{OF} ({now('minwatt_scaler_sm_clock_hertz')})", f"asked {WHO}", bound=True),
                Query(f"{MEAN} ({now('minwatt_sm_clock_locked_hertz')})", f"set {WHO}"),
            ),
            width=10,
        ),
    ),
)
