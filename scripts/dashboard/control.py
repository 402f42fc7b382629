"""What the controller and the node agents do. Values only."""

from __future__ import annotations

from scripts.dashboard.panels import Panel, Query, Row
from scripts.dashboard.queries import OF, WHO, now

DECISIONS = Row(
    "What does the controller do?",
    (
        Panel(
            "Replicas",
            "Dashed: the bounds of the policy. Desired above ready: they start, or wait for a node.",
            "none",
            (
                Query(
                    f"max by (namespace, policy, state) ({now('minwatt_scaler_replicas')})",
                    f"{{{{state}}}} {WHO}",
                ),
                Query(f"{OF} ({now('minwatt_scaler_replicas_min')})", f"min {WHO}", bound=True),
                Query(f"{OF} ({now('minwatt_scaler_replicas_max')})", f"max {WHO}", bound=True),
            ),
        ),
        Panel(
            "Load: seen and planned for",
            "The plan has room for the forecast, which is an upper quantile.",
            "reqps",
            (
                Query(f"{OF} ({now('minwatt_scaler_arrivals_rps')})", f"arrivals {WHO}"),
                Query(f"{OF} ({now('minwatt_scaler_forecast_rps')})", f"planned for {WHO}"),
            ),
        ),
        Panel(
            "Decisions, by reason",
            "One decision has several. kubectl describe says them in words.",
            "none",
            (
                Query(
                    "sum by (reason) "
                    f"(increase({now('minwatt_scaler_decision_reasons_total')}[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Operating point: batches",
            "Texts a batch at the most.",
            "none",
            (Query(f"{OF} ({now('minwatt_scaler_max_batch_texts')})", f"texts {WHO}"),),
            width=6,
        ),
        Panel(
            "Operating point: delay",
            "How long a text waits for company at the most.",
            "s",
            (Query(f"{OF} ({now('minwatt_scaler_max_delay_seconds')})", WHO),),
            width=6,
        ),
        Panel(
            "Age of what it decides by",
            "Dashed: the policy's staleAfter. Beyond, the fleet is held at no less than fallbackReplicas.",
            "s",
            (
                Query(f"{OF} ({now('minwatt_scaler_telemetry_age_seconds')})", WHO),
                Query(
                    f"{OF} ({now('minwatt_scaler_telemetry_stale_after_seconds')})",
                    f"stale {WHO}",
                    bound=True,
                ),
            ),
            width=6,
        ),
        Panel(
            "Who leads",
            "One copy acts. None: nothing is scaled. Two for long: look at clocks.",
            "bool_yes_no",
            (Query("minwatt_scaler_leader", "{{pod}}"),),
            kind="state-timeline",
            width=6,
        ),
        Panel(
            "What the API server refused",
            "409 and 410 are how the API works; 403 is a missing role; none: no answer came.",
            "reqps",
            (
                Query(
                    "sum by (verb, code) (rate(minwatt_scaler_api_errors_total[$__rate_interval]))",
                    "{{verb}} {{code}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Starts",
            "From process start to ready, as replicas measured it: how far ahead the forecast must look.",
            "s",
            (Query(f"{OF} ({now('minwatt_start_up_seconds')})", f"slowest {WHO}"),),
            width=12,
        ),
    ),
)

NODE_AGENT = Row(
    "Node agents",
    (
        Panel(
            "Watts of whole cards",
            "As agents read them; what each replica is told of a shared card is an estimate of its share.",
            "watt",
            (Query("sum by (node, source) (minwatt_agent_power_watts)", "{{node}}, {{source}}"),),
        ),
        Panel(
            "Cards that are lent",
            "With a clock or a power limit that an agent set, and will take back.",
            "none",
            (
                Query("sum by (node) (minwatt_agent_leases)", "{{node}}"),
                Query("sum (minwatt_agent_cards)", "cards there are", bound=True),
            ),
        ),
        Panel(
            "Cards that are not as they are to be",
            "Could not be set or restored; the agent tries on. Failures a second beside it.",
            "none",
            (
                Query("sum by (node) (minwatt_agent_card_unsettled)", "{{node}}"),
                Query(
                    "sum by (node) (rate(minwatt_agent_card_failures_total[$__rate_interval]))",
                    "failures {{node}}",
                ),
            ),
        ),
    ),
)
