"""What the fleet does now, from its replicas' reports: `Signals`, or `Missing` when too little is known.

Pure. Owns the counters' differences, freshness, and who is left out: samples of replicas that are still
warming, and arrivals that a draining replica turned away, since they come again at another door. Called by
`control` on each beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

from scaler.bus import FleetView
from scaler.latency_sketch import Latencies, merge
from scaler.report import Metered, ReplicaState, Report

SILENT_AFTER_S = 3.5  # a replica that said nothing for three reports


@dataclass(frozen=True, slots=True)
class SignalRules:
    rate_window_s: float = 2.0  # span of the counters' differences: two reports of each replica
    latency_window_s: float = 10.0  # of merged samples: a p99 needs hundreds
    fresh_s: float = SILENT_AFTER_S
    fresh_share: float = 0.5  # of ready replicas that must be fresh


@dataclass(frozen=True, slots=True)
class FleetPower:
    """Each (host, device) once. `watts` is None when any metered replica's is unknown."""

    watts: float | None
    source: str  # meters' kinds joined with +, or unknown


@dataclass(frozen=True, slots=True)
class Signals:
    at_s: float
    ready: int
    starting: int
    draining: int
    arrivals_rps: float
    completions_rps: float
    refusals_rps: float
    overload_refusals_rps: float
    queue_depth: int  # texts
    in_flight: Mapping[str, int]  # requests, by replica
    power: FleetPower
    latencies: Latencies | None  # over the latency window; None: nothing was answered
    recent_latencies: Latencies | None  # over just the time that the rates are of
    texts_per_request: float | None
    text_tokens: float | None  # padded tokens a text
    batch_mean_texts: float | None
    batch_tokens: float | None  # padded tokens a batch
    compute_s_per_batch: float | None
    batches: float  # that the means above are of
    padding_fraction: float | None
    start_up_s: float | None  # the slowest of the ready replicas
    highest_point_version: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Not enough is known to decide."""

    at_s: float
    reason: str
    ready: int = 0
    starting: int = 0
    draining: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignalMemory:
    """Reports of the members within the windows, oldest first, by replica."""

    reports: Mapping[str, tuple[Report, ...]] = field(default_factory=dict)


def observe(
    memory: SignalMemory, view: FleetView, now_s: float, rules: SignalRules
) -> tuple[SignalMemory, Signals | Missing]:
    """Takes in the new reports and reads the fleet at `now_s`."""
    memory = _remember(memory, view, now_s, rules)
    newest = {name: reports[-1] for name, reports in memory.reports.items()}
    ready = [name for name, report in newest.items() if report.state is ReplicaState.READY]
    fresh = [name for name in ready if now_s - newest[name].received_s <= rules.fresh_s]
    known = [name for name in fresh if len(memory.reports[name]) > 1]
    if not known or len(fresh) < rules.fresh_share * len(ready):
        return memory, Missing(
            at_s=now_s,
            reason=_why_missing(newest, ready, fresh),
            ready=len(ready),
            starting=_count(newest, ReplicaState.STARTING),
            draining=_count(newest, ReplicaState.DRAINING),
            in_flight={name: report.in_flight for name, report in newest.items()},
        )
    leaving = [
        name
        for name, report in newest.items()
        if report.state is ReplicaState.DRAINING and len(memory.reports[name]) > 1
    ]
    spans = {name: _span(memory.reports[name], rules.rate_window_s) for name in [*known, *leaving]}
    window_began_s = now_s - rules.latency_window_s
    return memory, replace(
        _signals(now_s, newest, list(spans.values()), len(ready) / len(known)),
        latencies=merge(chain(*(_samples(memory.reports[name], window_began_s) for name in spans))),
        recent_latencies=merge(
            chain(*(_samples(memory.reports[name], span.first.received_s) for name, span in spans.items()))
        ),
    )


def _count(newest: Mapping[str, Report], state: ReplicaState) -> int:
    return sum(report.state is state for report in newest.values())


@dataclass(frozen=True, slots=True)
class _Span:
    """Two reports of one replica; differences between them are what happened in `seconds`."""

    first: Report
    last: Report

    @property
    def seconds(self) -> float:
        return max(1e-3, self.last.received_s - self.first.received_s)

    def of(self, counter: Callable[[Report], float]) -> float:
        """A counter that went back was started anew: all of it is since then."""
        last, first = counter(self.last), counter(self.first)
        return last - first if last >= first else last


def _remember(memory: SignalMemory, view: FleetView, now_s: float, rules: SignalRules) -> SignalMemory:
    kept: dict[str, list[Report]] = {
        name: list(reports) for name, reports in memory.reports.items() if name in view.members
    }
    for report in view.reports:
        if report.replica_id in view.members:
            kept.setdefault(report.replica_id, []).append(report)
    oldest_s = now_s - rules.latency_window_s
    return SignalMemory(
        {
            name: (*(report for report in reports[:-1] if report.received_s >= oldest_s), reports[-1])
            for name, reports in kept.items()
        }
    )


def _why_missing(newest: Mapping[str, Report], ready: list[str], fresh: list[str]) -> str:
    if not newest:
        return "no replica has joined"
    if not ready:
        return f"none of {len(newest)} joined replicas is ready"
    if len(fresh) < len(ready):
        return f"{len(ready) - len(fresh)} of {len(ready)} ready replicas are silent"
    return "a first report of each replica, no rate yet"


def _span(reports: tuple[Report, ...], window_s: float) -> _Span:
    """From the newest report that is `window_s` older than the last, or the oldest there is."""
    last = reports[-1]
    old_enough = [report for report in reports if report.received_s <= last.received_s - window_s]
    return _Span(old_enough[-1] if old_enough else reports[0], last)


def _signals(now_s: float, newest: Mapping[str, Report], spans: list[_Span], unseen_factor: float) -> Signals:
    """`unseen_factor`: ready replicas over those with a rate; silent ones are taken to do as the rest."""

    def rate(counter: Callable[[Report], float]) -> float:
        return unseen_factor * sum(span.of(counter) / span.seconds for span in spans)

    def total(counter: Callable[[Report], float]) -> float:
        return sum(span.of(counter) for span in spans)

    completions, texts = total(lambda r: r.completions_total), total(lambda r: r.texts_total)
    padded, tokens = total(lambda r: r.padded_tokens_total), total(lambda r: r.tokens_total)
    batches, batched = total(lambda r: r.batches_total), total(lambda r: r.batched_texts_total)
    busy_s = total(lambda r: r.busy_s_total)
    start_ups = [report.start_up_s for report in newest.values() if report.start_up_s is not None]
    return Signals(
        at_s=now_s,
        ready=_count(newest, ReplicaState.READY),
        starting=_count(newest, ReplicaState.STARTING),
        draining=_count(newest, ReplicaState.DRAINING),
        arrivals_rps=rate(lambda r: r.arrivals_total - r.turned_away_total),
        completions_rps=rate(lambda r: r.completions_total),
        refusals_rps=rate(lambda r: r.refused_total),
        overload_refusals_rps=rate(lambda r: r.overload_refusals_total),
        queue_depth=sum(report.queue_depth for report in newest.values()),
        in_flight={name: report.in_flight for name, report in newest.items()},
        power=fleet_power(newest.values()),
        latencies=None,
        recent_latencies=None,
        texts_per_request=texts / completions if completions and texts else None,
        text_tokens=padded / batched if padded and batched else None,
        batch_mean_texts=batched / batches if batches else None,
        batch_tokens=padded / batches if batches and padded else None,
        compute_s_per_batch=busy_s / batches if batches and busy_s else None,
        batches=batches,
        padding_fraction=1 - tokens / padded if padded else None,
        start_up_s=max(start_ups, default=None),
        highest_point_version=max(report.operating_point_version for report in newest.values()),
    )


def fleet_power(reports: Iterable[Report]) -> FleetPower:
    """Watts of the fleet; two replicas on one device read the same watts, which count once."""
    watts: dict[tuple[str, str], float] = {}
    sources: set[str] = set()
    complete = True
    for report in reports:
        if isinstance(report.power, Metered) and report.power.watts is not None:
            watts[report.host, report.power.device] = report.power.watts
            sources.add(report.power.source)
        else:
            complete = False
    if not watts:
        return FleetPower(None, "unknown")
    return FleetPower(sum(watts.values()) if complete else None, "+".join(sorted(sources)))


def _samples(reports: tuple[Report, ...], since_s: float) -> list[bytes]:
    """Sketches after `since_s`. A replica's first ready report covers its warming too, and is left out."""
    return [
        report.latency_sketch
        for before, report in pairwise(reports)
        if report.received_s > since_s
        and report.state is not ReplicaState.STARTING
        and before.state is not ReplicaState.STARTING
    ]
