"""The agent's Prometheus metrics. The only file of the agent that imports prometheus_client.

Read when scraped, on the scrape's thread, from counts that other threads write: each is one number. What is
not known has no sample: missing is not zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from energy.reading import Reading
from minwatt.v1.errors import UsageError
from nodeagent.server import AgentServer

HZ_PER_MHZ = 1_000_000
_COUNTS = {
    "granted": ("minwatt_agent_leases_granted", "Leases that were set, changed ones too."),
    "ended": ("minwatt_agent_leases_ended", "Leases that were given back, ran out, or whose holder left."),
    "restored": ("minwatt_agent_restores", "Times a card was given back its own clocks and power limit."),
    "recovered": ("minwatt_agent_recoveries", "Cards found set by an agent that had not restored them."),
    "changed": (
        "minwatt_agent_settings_changed_by_others",
        "Times a leased card's clock lock or power limit was not as set; it was set anew.",
    ),
    "failed": ("minwatt_agent_card_failures", "Times a card could not be set, restored or looked at."),
}


class Metrics(Collector):
    """`serve` opens the port."""

    def __init__(self, server: AgentServer) -> None:
        self.registry = CollectorRegistry()
        self._agent = server
        self._server: WSGIServer | None = None
        self.registry.register(self)

    def serve(self, host: str, port: int) -> int:
        """Returns the port. Raises UsageError."""
        try:
            self._server, _ = start_http_server(port, host, registry=self.registry)
        except UnicodeError as error:
            raise UsageError(f"host = {host}: allowed: a host's name or address") from error
        except OSError as error:
            raise UsageError(f"host = {host}, metrics-port = {port}: {error.strerror}") from error
        return self._server.server_port

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        keeper = self._agent.keeper
        counts = dict(keeper.counts)
        for key, (name, text) in _COUNTS.items():
            yield CounterMetricFamily(name, text, value=counts.get(key, 0))
        present = keeper.cards.present
        yield GaugeMetricFamily("minwatt_agent_cards", "Cards of this node.", value=len(present))
        yield GaugeMetricFamily(
            "minwatt_agent_connections", "Open connections.", value=self._agent.connections
        )
        yield GaugeMetricFamily(
            "minwatt_agent_tick_age_seconds",
            "Since the cards were looked after last; beyond 30 the driver hangs.",
            value=time.monotonic() - self._agent.ticked_s,
        )
        yield self._requests()
        yield from self._settings()
        yield from self._power()

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "minwatt_agent_requests",
            "Lines and connections by what was asked and what became of it.",
            labels=["op", "outcome"],
        )
        for key, count in dict(self._agent.counts).items():
            op, _, outcome = key.rpartition(" ")
            family.add_metric([op or ("line" if outcome == "invalid" else "connect"), outcome], count)
        return family

    def _settings(self) -> Iterator[Metric]:
        keeper = self._agent.keeper
        leases = GaugeMetricFamily("minwatt_agent_leases", "Leases in force.", labels=["card"])
        clock = GaugeMetricFamily(
            "minwatt_agent_sm_clock_locked_hertz", "The lock; no sample: there is none.", labels=["card"]
        )
        limit = GaugeMetricFamily(
            "minwatt_agent_power_limit_set_watts", "The limit; no sample: the card's own.", labels=["card"]
        )
        owed = GaugeMetricFamily(
            "minwatt_agent_card_unsettled", "1: the card is not as it is to be.", labels=["card"]
        )
        unsettled = keeper.owed
        for uuid, hold in list(keeper.cards.holds.items()):
            leases.add_metric([uuid], len(keeper.leases.of(uuid)))
            owed.add_metric([uuid], uuid in unsettled)
            setting = hold.in_force
            if setting is not None and setting.clock_mhz is not None:
                clock.add_metric([uuid], setting.clock_mhz * HZ_PER_MHZ)
            if setting is not None and setting.limit_w is not None:
                limit.add_metric([uuid], setting.limit_w)
        yield from (leases, clock, limit, owed)

    def _power(self) -> Iterator[Metric]:
        watts = GaugeMetricFamily(
            "minwatt_agent_power_watts", "Of the whole card.", labels=["card", "source"]
        )
        joules = CounterMetricFamily(
            "minwatt_agent_energy_joules", "Of the whole card, as it counts them.", labels=["card", "source"]
        )
        for uuid, card in list(self._agent.watts.cards.items()):
            if isinstance(card.last, Reading):
                watts.add_metric([uuid, card.last.source], card.last.watts)
                joules.add_metric([uuid, card.last.source], card.last.joules_total)
        yield from (watts, joules)
