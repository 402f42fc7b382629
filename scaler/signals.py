"""What the fleet does now, from its replicas' reports: `Signals`, or `Missing` when too little is known.

Pure. Owns freshness, what is made of the counters' differences, and whose count: arrivals that a draining
replica turned away come again at another door. `signal_memory` keeps the reports. Called by `control` on each
beat.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low

from scaler.bus import FleetView
from scaler.latency_sketch import Latencies
from scaler.report import Metered, ReplicaState, Report
from scaler.signal_memory import Differences
from scaler.signal_memory import SignalMemory as SignalMemory

SILENT_AFTER_S = 3.5  # a replica that said nothing for three reports
# Replicas report each second, and out of turn when something changes: a rate over the milliseconds between
# two such reports says nothing.
_LAST_INTERVAL_S = 0.5
_MOST_AHEAD = 2**32  # one a second for 136 years
_MOST_VERSION = 2**62  # beyond it there is still room for all that are to come


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
    highest_point_version: int  # in force at a replica, or kept for those that join
    last_rps: float = 0.0  # arrivals, over just the last interval between reports
    variants: Mapping[str, int] = field(default_factory=dict)  # ready replicas by what they answer with
    beats_rps: tuple[float, ...] = ()  # the last_rps of each beat since the last tick
    reflex_fraction: float = 0.0  # of the replicas' time: how much of it the reflex was raised
    sm_clock_refused: str = ""  # why a replica's card is not at the clock it was to have
    silent: frozenset[str] = frozenset()  # members that have not reported lately


@dataclass(frozen=True, slots=True)
class Missing:
    """Not enough is known to decide."""

    at_s: float
    reason: str
    ready: int = 0
    starting: int = 0
    draining: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()  # members that have not reported lately


def observe(
    memory: SignalMemory, view: FleetView, now_s: float, rules: SignalRules
) -> tuple[SignalMemory, Signals | Missing]:
    """Takes in the new reports and reads the fleet at `now_s`."""
    memory = memory.after(view, now_s, rules.latency_window_s)
    newest = memory.newest
    since_s = now_s - rules.latency_window_s
    ready = [slot for slot, report in enumerate(newest) if report.state is ReplicaState.READY]
    fresh = [slot for slot in ready if now_s - newest[slot].received_s <= rules.fresh_s]
    silent = frozenset(one.replica_id for one in newest if now_s - one.received_s > rules.fresh_s)
    has_rate = memory.reports_since(since_s) > 1
    known = [slot for slot in fresh if has_rate[slot]]
    if not known or len(fresh) < rules.fresh_share * len(ready):
        return memory, Missing(
            at_s=now_s,
            reason=view.problem or _why_missing(newest, ready, fresh),
            ready=len(ready),
            starting=_count(newest, ReplicaState.STARTING),
            draining=_count(newest, ReplicaState.DRAINING),
            in_flight={report.replica_id: report.in_flight for report in newest},
            silent=silent,
        )
    leaving = [
        slot for slot, report in enumerate(newest) if report.state is ReplicaState.DRAINING and has_rate[slot]
    ]
    reporting = [*known, *leaving]
    happened = memory.differences(reporting, rules.rate_window_s, since_s)
    lately = memory.differences(reporting, _LAST_INTERVAL_S, since_s)
    # Silent replicas are taken to do as the rest.
    unseen_factor = len(ready) / len(known)
    latest_s = max(newest[slot].received_s for slot in reporting)
    return memory, replace(
        _signals(now_s, newest, happened, unseen_factor, view.told_version),
        last_rps=unseen_factor * _arrivals_rps(lately),
        latencies=memory.latencies(since_s),
        recent_latencies=memory.latencies(latest_s - rules.rate_window_s),
        silent=silent,
    )


def _count(newest: Sequence[Report], state: ReplicaState) -> int:
    return sum(report.state is state for report in newest)


def _why_missing(newest: Sequence[Report], ready: list[int], fresh: list[int]) -> str:
    if not newest:
        return "no replica has joined"
    if not ready:
        return f"none of {len(newest)} joined replicas is ready"
    if len(fresh) < len(ready):
        return f"{len(ready) - len(fresh)} of {len(ready)} ready replicas are silent"
    return "a first report of each replica, no rate yet"


def _signals(
    now_s: float, newest: Sequence[Report], happened: Differences, unseen_factor: float, told_version: int
) -> Signals:
    """`unseen_factor`: ready replicas over those with a rate."""

    def rate(counter: str) -> float:
        return unseen_factor * happened.per_second(counter)

    total = happened.total
    completions, texts = total("completions_total"), total("texts_total")
    padded, tokens = total("padded_tokens_total"), total("tokens_total")
    batches, batched = total("batches_total"), total("batched_texts_total")
    busy_s = total("busy_s_total")
    start_ups = [report.start_up_s for report in newest if report.start_up_s is not None]
    return Signals(
        at_s=now_s,
        ready=_count(newest, ReplicaState.READY),
        starting=_count(newest, ReplicaState.STARTING),
        draining=_count(newest, ReplicaState.DRAINING),
        arrivals_rps=unseen_factor * _arrivals_rps(happened),
        completions_rps=rate("completions_total"),
        refusals_rps=rate("refused_total"),
        overload_refusals_rps=rate("overload_refusals_total"),
        queue_depth=sum(report.queue_depth for report in newest),
        in_flight={report.replica_id: report.in_flight for report in newest},
        power=fleet_power(newest),
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
        variants=Counter(one.variant for one in newest if one.state is ReplicaState.READY and one.variant),
        highest_point_version=max(told_version, _believed_version(newest)),
        reflex_fraction=happened.total("reflex_s_total") / float(happened.seconds.sum()),
        sm_clock_refused=next((r.sm_clock_refused for r in newest if r.sm_clock_refused), ""),
    )


def _believed_version(reports: Sequence[Report]) -> int:
    """The highest in force, as far as it can be meant: a new point is numbered beyond it, and a number that
    the message does not hold could never be told. Who is further ahead of half of the fleet than any scaler
    can have decided has made it up.
    """
    versions = [report.operating_point_version for report in reports]
    most = min(median_low(versions) + _MOST_AHEAD, _MOST_VERSION)
    return max(version if version <= most else 0 for version in versions)


def _arrivals_rps(happened: Differences) -> float:
    """What a draining replica turned away comes again at another door."""
    return happened.per_second("arrivals_total") - happened.per_second("turned_away_total")


def fleet_power(reports: Iterable[Report]) -> FleetPower:
    """Watts of the fleet; two replicas on one device read the same watts, which count once."""
    watts: defaultdict[str, dict[str, float]] = defaultdict(dict)  # by host and device
    sources: set[str] = set()
    complete = True
    for report in reports:
        power = report.power
        if isinstance(power, Metered) and power.watts is not None:
            watts[report.host][power.device] = power.watts
            sources.add(power.source)
        else:
            complete = False
    if not watts:
        return FleetPower(None, "unknown")
    total_w = sum(sum(devices.values()) for devices in watts.values())
    return FleetPower(total_w if complete else None, "+".join(sorted(sources)))
