"""Every metric the scaler shows: its name, what it says, and the labels it may carry.

Pure. `metrics` can show nothing that does not stand here, and docs/metrics-scaler.md is made of it (`page`; a
test holds the two together): `python -m scaler.metric_catalogue > docs/metrics-scaler.md`. Dashboards and
alerts are held against `BY_NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scaler.decision import Action, ReasonCode

Kind = Literal["counter", "gauge"]

POLICY_LABELS = ("namespace", "policy")  # of each metric that is a policy's
STATES = ("desired", "ready", "starting", "draining")

# What a label may be. Series are bounded: those of a policy go with it, and nothing that a client sends or an
# API server answers becomes a label, other than a number.
LABELS = {
    "namespace": "of the PowerPolicy; empty where the policy is a file",
    "policy": "the PowerPolicy's name",
    "state": f"{', '.join(f'`{state}`' for state in STATES)}",
    "action": f"{', '.join(f'`{action.value}`' for action in Action)}",
    "reason": f"{', '.join(f'`{code.value}`' for code in ReasonCode)}",
    "source": "kinds of the fleet's meters, joined with `+`: `modelled`, `nvml`, `rapl`, `replayed`",
    "basis": "`measured` or `profile`",
    "verb": "`get`, `list`, `watch`, `create`, `update`, `patch` or `delete`",
    "code": "the HTTP status of the answer; `none` where there was no answer",
}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is without the suffix that Prometheus' text format adds."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = POLICY_LABELS

    @property
    def shown(self) -> str:
        """As it is queried."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"minwatt_scaler_{name}", "gauge", text, (*POLICY_LABELS, *labels))


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"minwatt_scaler_{name}", "counter", text, (*POLICY_LABELS, *labels))


FAMILIES = (
    _gauge("replicas", "Replicas by state; `desired` is what the last decision wants.", "state"),
    _gauge("replicas_min", "The fewest that the policy allows."),
    _gauge("replicas_max", "The most that the policy allows."),
    _gauge("arrivals_rps", "Requests a second at the doors of the fleet."),
    _gauge("forecast_rps", "Requests a second that the plan has capacity for."),
    _gauge("slo_latency_seconds", "What the policy's percentile of latencies is to stay below."),
    _gauge("slo_percentile_ratio", "Which percentile that is: 0.99 is p99."),
    _gauge("error_budget_ratio", "Share of requests that may be slower, refused or failed."),
    _gauge("latency_p99_seconds", "p99 at the servers, over the last tick."),
    _gauge("predicted_latency_p99_seconds", "Predicted for the decision, at the policy's percentile."),
    _gauge("predicted_watts", "Fleet watts predicted for the decision.", "basis"),
    _gauge("watts", "Watts of the fleet, each device once.", "source"),
    _counter("joules", "Joules of the fleet since the policy's loop began.", "source"),
    _gauge("budget_watts", "What the fleet may draw; absent where the policy has no budget."),
    _gauge("budget_used_ratio", "Watts of the fleet over the budget; absent while either is unknown."),
    _gauge("over_budget", "1 while the fleet draws more than the budget: by meters, else by the plan."),
    _gauge("meter_unknown", "1 while replicas report and the watts of one are unknown."),
    _gauge("telemetry_age_seconds", "Since enough replicas reported to decide by, or none was awaited yet."),
    _gauge("telemetry_stale", "1 while that is longer than the policy's staleAfter."),
    _gauge("telemetry_stale_after_seconds", "The policy's staleAfter."),
    _gauge("max_batch_texts", "Operating point: texts a batch."),
    _gauge("max_delay_seconds", "Operating point: how long a text waits for company."),
    _gauge("sm_clock_hertz", "Operating point: of the cards; 0 leaves them alone."),
    _gauge("reflex_ratio", "Share of the replicas' time in which slack was short."),
    _counter("decisions", "Decisions by action.", "action"),
    _counter("decision_reasons", "Decisions by reason; one decision has several.", "reason"),
    _gauge("last_decision_timestamp_seconds", "Unix time of the last decision."),
    Family("minwatt_scaler_leader", "gauge", "1 while this copy acts; with --kubernetes only.", ()),
    Family(
        "minwatt_scaler_api_errors",
        "counter",
        "Requests that the Kubernetes API server refused or left unanswered.",
        ("verb", "code"),
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}


def page() -> str:
    """docs/metrics-scaler.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Metrics of the scaler"
    yield ""
    yield "Written by `python -m scaler.metric_catalogue`; a test fails when it is stale. Prometheus' text"
    yield "format, `http://HOST:9090/metrics` of `minwatt up` and `minwatt scale`. Units are base units. What"
    yield "is not known is absent, never 0. Series of a policy go when the policy goes, and when this copy of"
    yield "the scaler no longer leads; a restart begins counters anew. A replica's own are in"
    yield "[metrics.md](metrics.md)."
    yield ""
    yield "| metric | kind | labels | says |"
    yield "|---|---|---|---|"
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        yield f"| `{family.shown}` | {family.kind} | {labels} | {family.text} |"
    yield ""
    yield "## Labels"
    yield ""
    for label, values in LABELS.items():
        yield f"- `{label}`: {values}"
    yield ""
    yield "`namespace` is the policy's, and Prometheus gives each target a `namespace` too: scrape with"
    yield "`honor_labels: true` (`honorLabels` of a ServiceMonitor), or it is renamed `exported_namespace`."
    yield ""
    yield "## Alerts"
    yield ""
    yield "Each policy brings its own bounds, so one rule serves all:"
    yield ""
    yield "```promql"
    yield "minwatt_scaler_latency_p99_seconds > minwatt_scaler_slo_latency_seconds  # of policies on a p99"
    yield "minwatt_scaler_over_budget == 1"
    yield "minwatt_scaler_telemetry_stale == 1"
    yield "minwatt_scaler_meter_unknown == 1"
    yield 'minwatt_scaler_replicas{state="desired"} >= on (namespace, policy) minwatt_scaler_replicas_max'
    yield "time() - minwatt_scaler_last_decision_timestamp_seconds > 900  # no tick is longer than 10 minutes"
    yield "```"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - the command's output
