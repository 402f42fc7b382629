"""How replicas serve: batches, refusals, known answers. Values only."""

from __future__ import annotations

from scripts.dashboard.panels import Panel, Query, Row
from scripts.dashboard.queries import BY, HIT, MEAN, OF, WHO, now, quantile, rate

BATCHING = Row(
    "How are requests batched?",
    (
        Panel(
            "Texts a batch",
            "Mean, and the size that nine in ten batches stay below.",
            "none",
            (
                Query(
                    f"{BY} ({rate('minwatt_batch_texts_sum')}) / {BY} ({rate('minwatt_batch_texts_count')})",
                    f"mean {WHO}",
                ),
                Query(quantile(0.9, "minwatt_batch_texts"), f"p90 {WHO}"),
            ),
        ),
        Panel(
            "Padding",
            "Of the tokens that were computed, those that were there only to make texts equally long.",
            "percentunit",
            (
                Query(
                    f"1 - {BY} ({rate('minwatt_tokens_total')}) "
                    f"/ {BY} ({rate('minwatt_padded_tokens_total')})",
                    WHO,
                ),
            ),
        ),
        Panel(
            "Busy, and short of slack",
            "Share of the replicas' time in which the engine computed, and in which the reflex was raised.",
            "percentunit",
            (
                Query(
                    f"{MEAN} ({rate('minwatt_engine_busy_seconds_total')})",
                    f"busy {WHO}",
                ),
                Query(f"{MEAN} ({rate('minwatt_reflex_seconds_total')})", f"reflex {WHO}"),
            ),
        ),
        Panel(
            "Time in the queue and in the engine",
            "p99 of requests' waits and of batches' compute.",
            "s",
            (
                Query(quantile(0.99, "minwatt_queue_seconds"), f"queue {WHO}"),
                Query(quantile(0.99, "minwatt_batch_compute_seconds"), f"engine {WHO}"),
            ),
        ),
        Panel(
            "Texts that wait",
            "Of all replicas, and of those the ones of the class batch.",
            "none",
            (
                Query(f"{BY} ({now('minwatt_queue_depth_texts')})", f"all {WHO}"),
                Query(f"{BY} ({now('minwatt_batch_class_queue_depth_texts')})", f"batch class {WHO}"),
            ),
        ),
        Panel(
            "Load of the fullest replica over the mean",
            "1: clients spread their requests evenly. Above 1.25 the plan's headroom for it is used up.",
            "none",
            (
                Query(
                    f"{OF} ({rate('minwatt_arrivals_total')}) / avg by (namespace, policy) "
                    f"({rate('minwatt_arrivals_total')})",
                    WHO,
                ),
            ),
        ),
    ),
)

REFUSALS = Row(
    "Who is refused, and what need not be computed?",
    (
        Panel(
            "Refusals, by reason",
            "slo, queue_full, shed: too little capacity. quota, identity, invalid: the client's.",
            "reqps",
            (Query(f"sum by (reason) ({rate('minwatt_refusals_total')})", "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Refused for want of watts",
            "Share of replicas that refuse the class batch because the budget is used up.",
            "percentunit",
            (Query(f"{MEAN} ({now('minwatt_shedding')})", WHO),),
        ),
        Panel(
            "Known answers",
            "Of texts looked up, those that cost no joules. Empty without a cache.",
            "percentunit",
            (
                Query(
                    f"{BY} ({rate('minwatt_cache_texts_total', HIT)}) "
                    f"/ {BY} ({rate('minwatt_cache_texts_total')})",
                    WHO,
                ),
            ),
        ),
        Panel(
            "Tenants",
            "Requests by tenant and outcome; with --tenants only.",
            "reqps",
            (
                Query(
                    f"sum by (tenant, outcome) ({rate('minwatt_tenant_requests_total')})",
                    "{{tenant}}: {{outcome}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Tenants' joules",
            "What answered requests were charged with, as far as known.",
            "watt",
            (Query(f"sum by (tenant) ({rate('minwatt_tenant_joules_total')})", "{{tenant}}"),),
            width=12,
        ),
    ),
)
