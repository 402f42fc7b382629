"""Every metric a replica shows: its name, what it says, and the labels it may carry.

Pure. `metrics` can show nothing that does not stand here, and docs/metrics.md is made of it (`page`; a test
holds the two together): `python -m service.metric_catalogue > docs/metrics.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from service.statuses import REASONS

Kind = Literal["counter", "gauge", "histogram", "info"]

# Of requests and batches, in seconds. `buckets` puts the replica's own SLO among them.
LATENCY_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0),
)  # fmt: skip
SIZE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
TOKEN_BUCKETS = (16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)

# What a label may be: a fixed set, or one value for the life of a replica. No label is a client's to choose.
LABELS = {
    "method": "a method of `minwatt.v1.TextInference`, `ModelInfer` or `ModelStreamInfer`: 6 values",
    "status": "a gRPC status code by name: at most 17 values",
    "reason": f"of refusals one of {', '.join(f'`{reason}`' for reason in REASONS)}; of answers that the "
    "cache let go of `room` or `age`",
    "slo": "`met` or `missed`",
    "outcome": "of texts `hit` (known), `joined` (computed for another request at that moment) or `missed` "
    "(computed); of a tenant's requests `ok`, `cancelled` or why they were refused, as in `reason`",
    "tenant": "a name in the file of `--tenants`",
    "source": "where joules come from: `nvml`, `nvml-estimate`, `rapl`, `modelled`, `replayed`; one value a "
    "replica",
    "part": "`start_up`, `idle`, `requests`, `unpriced`",
    "model": "a model that the replica was started with",
    "version": "of a model that is resident now",
    "variant": "of a model that is resident now",
    "replica_id": "one value a replica",
}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is without the suffixes that Prometheus' text format adds."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """As it is queried."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return self.name + suffix


FAMILIES = (
    Family(
        "minwatt_request_duration_seconds",
        "histogram",
        "From the door to the reply.",
        ("method", "status"),
        LATENCY_BUCKETS,
    ),
    Family("minwatt_slo_requests", "counter", "Answered, within the SLO of that moment or not.", ("slo",)),
    Family(
        "minwatt_queue_seconds",
        "histogram",
        "From the door to the start of compute, of requests of which something was computed.",
        buckets=LATENCY_BUCKETS,
    ),
    Family(
        "minwatt_batch_compute_seconds", "histogram", "Of a batch in the engine.", buckets=LATENCY_BUCKETS
    ),
    Family("minwatt_batch_texts", "histogram", "Texts a batch.", buckets=SIZE_BUCKETS),
    Family("minwatt_batch_padded_tokens", "histogram", "Tokens a batch, padded.", buckets=TOKEN_BUCKETS),
    Family("minwatt_tokens", "counter", "Computed, without padding."),
    Family("minwatt_padded_tokens", "counter", "Computed, with padding."),
    Family("minwatt_refusals", "counter", "Requests without an answer.", ("reason",)),
    Family("minwatt_arrivals", "counter", "Requests at the door, refused ones too."),
    Family("minwatt_engine_busy_seconds", "counter", "Time the engine computed."),
    Family("minwatt_reflex_seconds", "counter", "Time in which slack was short."),
    Family(
        "minwatt_replica", "info", "What this replica serves.", ("model", "version", "variant", "replica_id")
    ),
    Family("minwatt_model", "info", "Resident now.", ("model", "version", "variant")),
    Family("minwatt_model_replacements", "counter", "Loaded and put in its place.", ("model",)),
    Family("minwatt_model_reload_failures", "counter", "Refused; what was there keeps serving.", ("model",)),
    Family("minwatt_ready", "gauge", "1 while this replica takes requests."),
    Family("minwatt_start_up_seconds", "gauge", "From process start to ready."),
    Family("minwatt_queue_depth_texts", "gauge", "Texts that wait."),
    Family("minwatt_batch_class_queue_depth_texts", "gauge", "Of those, of the priority class batch."),
    Family("minwatt_in_flight_requests", "gauge", "Accepted and not yet answered."),
    Family("minwatt_slo_seconds", "gauge", "The latency to hold, of the operating point."),
    Family("minwatt_max_batch_texts", "gauge", "Of the operating point."),
    Family("minwatt_max_delay_seconds", "gauge", "Of the operating point."),
    Family("minwatt_operating_point_version", "gauge", "In force."),
    Family("minwatt_reflex_raised", "gauge", "1 while slack is short."),
    Family("minwatt_shedding", "gauge", "1 while the class batch is refused for want of watts."),
    Family("minwatt_tenant_requests", "counter", "Ended, however.", ("tenant", "outcome")),
    Family("minwatt_tenant_tokens", "counter", "Of answered requests.", ("tenant",)),
    Family("minwatt_tenant_joules", "counter", "Of answered requests, as far as known.", ("tenant",)),
    Family("minwatt_tenant_in_flight_requests", "gauge", "Accepted and not yet answered.", ("tenant",)),
    Family("minwatt_sm_clock_refused", "gauge", "1 while the card is not at the clock it was to have."),
    Family("minwatt_sm_clock_locked_hertz", "gauge", "Set by this replica; absent while it sets none."),
    Family("minwatt_meter_up", "gauge", "1 while the meter gives watts.", ("source",)),
    Family(
        "minwatt_power_watts",
        "gauge",
        "Mean over the meter's last window; absent while unknown.",
        ("source",),
    ),
    Family("minwatt_energy_joules", "counter", "Read from the meter; absent while unknown.", ("source",)),
    Family("minwatt_apportioned_joules", "counter", "Where the meter's joules went.", ("source", "part")),
    Family(
        "minwatt_cache_texts", "counter", "Texts looked up; with a cache only, as all below.", ("outcome",)
    ),
    Family("minwatt_cache_up", "gauge", "0 while the store is left alone because it fails."),
    Family("minwatt_cache_failures", "counter", "Exchanges with the store that failed or took too long."),
    Family("minwatt_cache_removed", "counter", "Answers let go of; in process only.", ("reason",)),
    Family("minwatt_cache_entries", "gauge", "Answers kept; in process only."),
    Family("minwatt_cache_bytes", "gauge", "That they take; in process only."),
    Family(
        "minwatt_captured_requests",
        "counter",
        "Sampled; with --capture only.",
        ("outcome",),
    ),
    Family("minwatt_front_ends", "gauge", "Processes that are up; with --front-ends only, as all below."),
    Family("minwatt_front_ends_lost", "counter", "That have ended while the engine process served."),
    Family("minwatt_front_end_cpu_seconds", "counter", "Computed by all of them since the start."),
)
BY_NAME = {family.name: family for family in FAMILIES}

# Reasons of refusals that are no failure of the server: they spend no error budget.
NOT_THE_SERVERS = ("invalid", "identity", "quota", "cancelled")


def buckets(family: Family, slo_s: float) -> tuple[float, ...]:
    """Upper bounds. Of latencies the SLO is one, so that the share within it is read and not interpolated."""
    if family.buckets is LATENCY_BUCKETS:
        return tuple(sorted({*LATENCY_BUCKETS, slo_s}))
    return family.buckets


def page() -> str:
    """docs/metrics.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Metrics of a replica"
    yield ""
    yield "Written by `python -m service.metric_catalogue`; a test fails when it is stale. Prometheus' text"
    yield "format, `http://HOST:9100/metrics`. Units are base units; histograms have `_bucket`, `_sum` and"
    yield "`_count`. Nothing that a client sends becomes a label: the number of series is bounded."
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
    yield "## Buckets"
    yield ""
    yield "Upper bounds (`le`), `+Inf` besides:"
    yield ""
    yield f"- seconds: {_list(LATENCY_BUCKETS)}; and the replica's `--slo`, so that `le` has it exactly"
    yield f"- texts a batch: {_list(SIZE_BUCKETS)}"
    yield f"- padded tokens a batch: {_list(TOKEN_BUCKETS)}"
    yield ""
    yield "## An alert on the SLO"
    yield ""
    yield "The share of requests that were slower than the SLO, refused or failed, over an hour; with an"
    yield "error budget of 0.1% and the burn rate of 14.4 that spends 2% of a month's budget in that hour"
    yield "(Google's SRE workbook, chapter 5). A client's own mistakes, wrong keys and used-up quotas count"
    yield "neither way:"
    yield ""
    yield "```promql"
    met, answered = 'minwatt_slo_requests_total{slo="met"}', "minwatt_slo_requests_total"
    failed = f'minwatt_refusals_total{{reason!~"{"|".join(NOT_THE_SERVERS)}"}}'
    yield f"1 - sum(rate({met}[1h]))"
    yield f"    / (sum(rate({answered}[1h])) + sum(rate({failed}[1h]))) > 14.4 * 0.001"
    yield "```"
    yield ""
    yield "An operating point may move the SLO: each request is counted by the one in force when it was"
    yield "answered, which `minwatt_slo_seconds` shows. The SLO's bucket is that of the start, `--slo`."
    yield "`k8s/monitoring/` has rules for all windows of that chapter."


def _list(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - the command's output
