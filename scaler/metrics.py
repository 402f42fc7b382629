"""The scaler's Prometheus metrics. The only file of the scaler that imports prometheus_client."""

from __future__ import annotations

import math
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from minwatt.v1.errors import UsageError
from scaler.decision import Action, Decision
from scaler.record import FleetRow

_HZ_PER_MHZ = 1_000_000


class Metrics:
    """Fed like a record; what is not known is NaN, never 0."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"minwatt_scaler_{name}", text, labels, registry=self.registry)

        self._replicas = gauge("replicas", "Replicas by state.", ("state",))
        self._arrivals = gauge("arrivals_rps", "Requests a second at the doors of the fleet.")
        self._forecast = gauge("forecast_rps", "Requests a second that the plan has capacity for.")
        self._p99 = gauge("latency_p99_seconds", "p99 at the servers, over the last tick.")
        self._predicted_p99 = gauge("predicted_latency_p99_seconds", "p99 predicted for the decision.")
        self._predicted_watts = gauge(
            "predicted_watts", "Fleet watts predicted for the decision.", ("basis",)
        )
        self._watts = gauge("watts", "Watts of the fleet, each device once.", ("source",))
        self._joules = gauge("joules", "Joules of the fleet since the scaler's start.", ("source",))
        self._max_batch = gauge("max_batch_texts", "Operating point: texts a batch.")
        self._max_delay = gauge("max_delay_seconds", "Operating point: how long a text waits for company.")
        self._sm_clock = gauge("sm_clock_hertz", "Operating point: of the cards; 0 leaves them alone.")
        self._reflex = gauge("reflex_ratio", "Share of the replicas' time in which slack was short.")
        self._decisions = Counter(
            "minwatt_scaler_decisions", "Decisions by action.", ("action",), registry=self.registry
        )
        for action in Action:
            self._decisions.labels(action.value)

    def observed(self, row: FleetRow) -> None:
        states = {
            "desired": row.replicas_desired,
            "ready": row.replicas_ready,
            "starting": row.replicas_starting,
            "draining": row.replicas_draining,
        }
        for state, count in states.items():
            self._replicas.labels(state).set(count)
        self._arrivals.set(_known(row.arrivals_rps))
        self._p99.set(_known(row.p99_s))
        self._watts.clear()
        self._watts.labels(row.watts_source).set(_known(row.watts))
        self._joules.clear()
        self._joules.labels(row.watts_source).set(_known(row.joules_total))
        self._max_batch.set(_known(row.max_batch_texts))
        self._max_delay.set(_known(row.max_delay_s))
        self._sm_clock.set(_HZ_PER_MHZ * _known(row.sm_clock_mhz))
        self._reflex.set(_known(row.reflex_fraction))

    def decided(self, decision: Decision, at_s: float) -> None:  # noqa: ARG002 - Prometheus dates its scrapes
        self._decisions.labels(decision.action.value).inc()
        self._forecast.set(_known(decision.forecast_rps))
        self._predicted_p99.set(_known(decision.predicted_p99_s))
        self._predicted_watts.clear()
        self._predicted_watts.labels(decision.watts_basis).set(_known(decision.predicted_watts))

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


def _known(value: float | None) -> float:
    return math.nan if value is None else value
