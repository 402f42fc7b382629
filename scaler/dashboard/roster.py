"""Each replica as the page's table shows it, from its last two reports.

Pure but for what it remembers: two reports of each replica. Owns what a row holds and which rows are shown of
a fleet that is too large for a page. `RosterBus` reads along with the loop. Called by `board`.
"""

from __future__ import annotations

from scaler.bus import FleetBus, FleetView
from scaler.latency_sketch import merge
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report
from scaler.signals import SILENT_AFTER_S

MOST_ROWS = 200  # what people can look at, and 20 kB a second
SILENT = "silent"
_ORDER = (SILENT, "draining", "starting", "ready")
COLUMNS = (
    *("name", "state", "rps", "p99_ms", "busy_fraction", "batch_texts", "queue_texts", "in_flight"),
    *("watts", "watts_source", "variant", "sm_clock_mhz", "age_s"),
)
Row = tuple[float | str | None, ...]  # by COLUMNS: their names in each row would be most of a page's traffic


class Roster:
    """What the replicas said last, those that left taken out."""

    def __init__(self) -> None:
        self._last: dict[str, Report] = {}
        self._before: dict[str, Report] = {}

    def hear(self, view: FleetView) -> None:
        for page in view.pages:
            for report in page.reports:
                known = self._last.get(report.replica_id)
                if known is not None:
                    self._before[report.replica_id] = known
                self._last[report.replica_id] = report
        if not view.problem and len(self._last) > len(view.members):
            for gone in self._last.keys() - view.members:
                del self._last[gone]
                self._before.pop(gone, None)

    @property
    def replicas(self) -> int:
        return len(self._last)

    def rows(self, now_s: float) -> list[Row]:
        """At most MOST_ROWS: those that need a look first, then by name. `now_s`: of the reports' clock."""
        states = {name: _state(report, now_s) for name, report in self._last.items()}
        shown = sorted(states, key=lambda name: (_ORDER.index(states[name]), name))[:MOST_ROWS]
        return [_row(self._last[name], self._before.get(name), states[name], now_s) for name in shown]


class RosterBus:
    """A bus that is read along."""

    def __init__(self, bus: FleetBus, roster: Roster) -> None:
        self._bus = bus
        self._roster = roster

    async def publish(self, point: OperatingPoint) -> None:
        await self._bus.publish(point)

    async def collect(self) -> FleetView:
        view = await self._bus.collect()
        self._roster.hear(view)
        return view

    async def close(self) -> None:
        await self._bus.close()


def _state(report: Report, now_s: float) -> str:
    silent = now_s - report.received_s > SILENT_AFTER_S
    return SILENT if silent and report.state is not ReplicaState.STARTING else report.state.value


def _row(report: Report, before: Report | None, state: str, now_s: float) -> Row:
    span_s = report.received_s - before.received_s if before else 0.0
    rps = batch = busy = None
    if before is not None and span_s > 0 and report.arrivals_total >= before.arrivals_total:
        rps = (report.arrivals_total - before.arrivals_total) / span_s
        batches = report.batches_total - before.batches_total
        batch = (report.batched_texts_total - before.batched_texts_total) / batches if batches > 0 else None
        busy = min(1.0, max(0.0, (report.busy_s_total - before.busy_s_total) / span_s))
    latencies = merge([report.latency_sketch])
    power = report.power if isinstance(report.power, Metered) else None
    return (
        report.replica_id,
        state,
        _rounded(rps, 1),
        None if latencies is None else _rounded(latencies.quantile_s(99) * 1e3, 1),
        _rounded(busy, 2),
        _rounded(batch, 1),
        report.queue_depth,
        report.in_flight,
        None if power is None else _rounded(power.watts, 1),
        "unknown" if power is None or power.watts is None else power.source,
        report.variant,
        report.sm_clock_mhz or None,
        _rounded(max(0.0, now_s - report.received_s), 0),
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
