"""The scaler's Prometheus metrics. The only file of the scaler that imports prometheus_client.

Owns the registry, its HTTP server and what is remembered of each policy between two scrapes; names, words and
labels are `metric_catalogue`'s. A policy's loop feeds its `PolicyMetrics`; the Kubernetes controller tells
besides whether it leads and what the API server refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from minwatt.v1.errors import UsageError
from scaler.decision import Action, Decision, ReasonCode
from scaler.metric_catalogue import FAMILIES
from scaler.policy import Policy, Spec
from scaler.record import FleetRow

_HZ_PER_MHZ = 1_000_000

Sample = tuple[str, tuple[str, ...], float]  # the metric's name after minwatt_scaler_, labels, value
_Maybe = tuple[str, tuple[str, ...], float | None]


class Metrics:
    """Of many policies; one where there is no cluster. `clock` measures how old telemetry is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._policies: dict[tuple[str, str], PolicyMetrics] = {}
        self._leads: bool | None = None
        self._api_errors: Counter[tuple[str, str]] = Counter()
        self._server: WSGIServer | None = None
        self.registry.register(_Shown(self._samples))

    def of(self, namespace: str, policy: Policy) -> PolicyMetrics:
        """The watcher of that policy's loop. Called again when the policy was edited: what it counts goes on.

        `namespace` is empty where the policy is a file.
        """
        key = (namespace, policy.metadata.name)
        known = self._policies.get(key)
        if known is None:
            known = self._policies[key] = PolicyMetrics(key, policy.spec, self._clock)
        known.spec = policy.spec
        return known

    def forget(self, namespace: str, policy: str) -> None:
        """All series of a policy: it is gone, or another copy acts on it."""
        self._policies.pop((namespace, policy), None)

    def leading(self, leads: bool) -> None:
        """Shown from the first call on: without Kubernetes there is no leader."""
        self._leads = leads

    def api_error(self, verb: str, code: int | None) -> None:
        """A request the API server refused with that HTTP status; None: no answer came."""
        self._api_errors[verb, "none" if code is None else str(code)] += 1

    def serve(self, host: str, port: int) -> str:
        """Answers from a thread of its own, at the address returned. Raises UsageError if it is taken."""
        try:
            self._server, _ = start_http_server(port, host, registry=self.registry)
        except OSError as error:
            raise UsageError(f"--metrics-port = {port}: can't listen on {host} ({error.strerror})") from error
        return f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _samples(self) -> Iterator[Sample]:
        for policy in list(self._policies.values()):  # scraped from another thread
            yield from policy.samples()
        if self._leads is not None:
            yield "leader", (), float(self._leads)
        for key, count in list(self._api_errors.items()):
            yield "api_errors", key, count


class PolicyMetrics:
    """A watcher of one policy's loop: remembers the last row and decision, and counts."""

    def __init__(self, key: tuple[str, str], spec: Spec, clock: Callable[[], float]) -> None:
        self.spec = spec
        self._key = key
        self._clock = clock
        self._row: FleetRow | None = None
        self._decision: tuple[Decision, float] | None = None
        # From the start at 0: a rate over the first of a kind is then right.
        self._actions = Counter(dict.fromkeys(Action, 0))
        self._reasons = Counter(dict.fromkeys(ReasonCode, 0))
        self._enough_known_s = clock()

    def observed(self, row: FleetRow) -> None:
        if row.arrivals_rps is not None:
            self._enough_known_s = self._clock()
        self._row = row

    def decided(self, decision: Decision, at_s: float) -> None:
        self._actions[decision.action] += 1
        codes = {reason.code for reason in decision.reasons}
        self._reasons.update(codes)
        if ReasonCode.STARTING in codes:  # no report is missed yet
            self._enough_known_s = self._clock()
        self._decision = (decision, at_s)

    def samples(self) -> Iterator[Sample]:
        """What is known now; a value that is not known is left out."""
        row, decision = self._row, self._decision
        yield from self._kept(_promised(self.spec))
        yield from self._kept(self._telemetry())
        yield from self._kept(self._counted())
        if decision is not None:
            yield from self._kept(_decided(*decision))
        if row is not None:
            yield from self._kept(_observed(row))
            yield from self._kept(_watts(row, decision[0] if decision else None, self.spec.power.budget_w))

    def _kept(self, found: Iterable[_Maybe]) -> Iterator[Sample]:
        for name, labels, value in found:
            if value is not None:
                yield name, (*self._key, *labels), float(value)

    def _telemetry(self) -> Iterator[_Maybe]:
        age_s, limit_s = self._clock() - self._enough_known_s, self.spec.telemetry.stale_after_s
        yield "telemetry_age_seconds", (), age_s
        yield "telemetry_stale", (), age_s > limit_s
        yield "telemetry_stale_after_seconds", (), limit_s

    def _counted(self) -> Iterator[_Maybe]:
        for action, count in list(self._actions.items()):
            yield "decisions", (action.value,), count
        for code, count in list(self._reasons.items()):
            yield "decision_reasons", (code.value,), count


def _promised(spec: Spec) -> Iterator[_Maybe]:
    yield "replicas_min", (), spec.replicas.min
    yield "replicas_max", (), spec.replicas.max
    yield "slo_latency_seconds", (), spec.slo.latency_s
    yield "slo_percentile_ratio", (), spec.slo.percentile / 100
    yield "error_budget_ratio", (), spec.slo.error_budget
    yield "budget_watts", (), spec.power.budget_w


def _decided(decision: Decision, at_s: float) -> Iterator[_Maybe]:
    yield "last_decision_timestamp_seconds", (), at_s
    yield "replicas", ("desired",), decision.desired_replicas
    yield "forecast_rps", (), decision.forecast_rps
    yield "predicted_latency_p99_seconds", (), decision.predicted_p99_s
    yield "predicted_watts", (decision.watts_basis,), decision.predicted_watts


def _observed(row: FleetRow) -> Iterator[_Maybe]:
    yield "replicas", ("ready",), row.replicas_ready
    yield "replicas", ("starting",), row.replicas_starting
    yield "replicas", ("draining",), row.replicas_draining
    yield "arrivals_rps", (), row.arrivals_rps
    yield "latency_p99_seconds", (), row.p99_s
    yield "max_batch_texts", (), row.max_batch_texts
    yield "max_delay_seconds", (), row.max_delay_s
    yield "sm_clock_hertz", (), None if row.sm_clock_mhz is None else _HZ_PER_MHZ * row.sm_clock_mhz
    yield "reflex_ratio", (), row.reflex_fraction


def _watts(row: FleetRow, decision: Decision | None, budget_w: float | None) -> Iterator[_Maybe]:
    """By meters; a budget is held against the plan's watts where those are unknown."""
    yield "watts", (row.watts_source,), row.watts
    yield "joules", (row.watts_source,), row.joules_total
    if row.arrivals_rps is not None:
        yield "meter_unknown", (), row.watts is None
    planned_w = decision.predicted_watts if decision is not None else None
    drawn_w = planned_w if row.watts is None else row.watts
    if budget_w is not None and drawn_w is not None:
        yield "over_budget", (), drawn_w > budget_w
    if budget_w is not None and row.watts is not None:
        yield "budget_used_ratio", (), row.watts / budget_w


class _Shown(Collector):
    """The catalogue's families in their order, each with the samples it has."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for name, labels, value in self._samples():
            found.setdefault(f"minwatt_scaler_{name}", []).append((labels, value))
        for family in FAMILIES:
            made = (
                GaugeMetricFamily(family.name, family.text, labels=family.labels)
                if family.kind == "gauge"
                else CounterMetricFamily(family.name, family.text, labels=family.labels)
            )
            for labels, value in found.pop(family.name, ()):
                made.add_metric(labels, value)
            yield made
        if found:
            raise LookupError(f"not in the catalogue: {', '.join(sorted(found))}")
