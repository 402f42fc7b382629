"""What the fleet does now, from its replicas' reports: `Signals`, or `Missing` when too little is known.

Pure. Owns freshness, what is made of the counters' differences, and whose count: arrivals that a draining
replica turned away come again at another door. `signal_memory` keeps the reports. Called by `control` on each
beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from scaler.bus import FleetView
from scaler.latency_sketch import Latencies
from scaler.pages import STATE_CODE
from scaler.report import ReplicaState
from scaler.signal_memory import Differences, Said
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
    since_s = now_s - rules.latency_window_s
    received_s = memory.column("received_s")
    is_ready = _are(memory, ReplicaState.READY)
    is_fresh = now_s - received_s <= rules.fresh_s
    names = np.array(tuple(memory.slots), dtype=np.object_)
    silent = frozenset(names[~is_fresh].tolist())
    history = memory.history(since_s)
    has_rate = history.counts() > 1
    ready, fresh = int(is_ready.sum()), int((is_ready & is_fresh).sum())
    is_known = is_ready & is_fresh & has_rate
    known = int(is_known.sum())
    if not known or fresh < rules.fresh_share * ready:
        return memory, Missing(
            at_s=now_s,
            reason=view.problem or _why_missing(len(names), ready, fresh),
            ready=ready,
            starting=int(_are(memory, ReplicaState.STARTING).sum()),
            draining=int(_are(memory, ReplicaState.DRAINING).sum()),
            in_flight=_in_flight(memory),
            silent=silent,
        )
    is_leaving = _are(memory, ReplicaState.DRAINING) & has_rate
    reporting = np.flatnonzero(is_known | is_leaving)
    happened = history.differences(reporting, rules.rate_window_s)
    lately = history.differences(reporting, _LAST_INTERVAL_S)
    # Silent replicas are taken to do as the rest.
    unseen_factor = ready / known
    latest_s = float(received_s[reporting].max())
    return memory, replace(
        _signals(now_s, memory, happened, unseen_factor, view.told_version),
        last_rps=unseen_factor * _arrivals_rps(lately),
        latencies=memory.latencies(since_s),
        recent_latencies=memory.latencies(latest_s - rules.rate_window_s),
        silent=silent,
    )


def _are(memory: SignalMemory, state: ReplicaState) -> NDArray[np.bool_]:
    """By slot."""
    are: NDArray[np.bool_] = memory.column("state") == STATE_CODE[state]
    return are


def _in_flight(memory: SignalMemory) -> Mapping[str, int]:
    return dict(zip(memory.slots, memory.column("in_flight").astype(np.int64).tolist(), strict=True))


def _why_missing(joined: int, ready: int, fresh: int) -> str:
    if not joined:
        return "no replica has joined"
    if not ready:
        return f"none of {joined} joined replicas is ready"
    if fresh < ready:
        return f"{ready - fresh} of {ready} ready replicas are silent"
    return "a first report of each replica, no rate yet"


def _signals(
    now_s: float, memory: SignalMemory, happened: Differences, unseen_factor: float, told_version: int
) -> Signals:
    """`unseen_factor`: ready replicas over those with a rate."""

    def rate(counter: str) -> float:
        return unseen_factor * happened.per_second(counter)

    total = happened.total
    completions, texts = total("completions_total"), total("texts_total")
    padded, tokens = total("padded_tokens_total"), total("tokens_total")
    batches, batched = total("batches_total"), total("batched_texts_total")
    busy_s = total("busy_s_total")
    is_ready, start_up_s = _are(memory, ReplicaState.READY), memory.column("start_up_s")
    start_ups = start_up_s[~np.isnan(start_up_s)]
    return Signals(
        at_s=now_s,
        ready=int(is_ready.sum()),
        starting=int(_are(memory, ReplicaState.STARTING).sum()),
        draining=int(_are(memory, ReplicaState.DRAINING).sum()),
        arrivals_rps=unseen_factor * _arrivals_rps(happened),
        completions_rps=rate("completions_total"),
        refusals_rps=rate("refused_total"),
        overload_refusals_rps=rate("overload_refusals_total"),
        queue_depth=int(memory.column("queue_depth").sum()),
        in_flight=_in_flight(memory),
        power=fleet_power(memory.column("watts"), memory.said),
        latencies=None,
        recent_latencies=None,
        texts_per_request=texts / completions if completions and texts else None,
        text_tokens=padded / batched if padded and batched else None,
        batch_mean_texts=batched / batches if batches else None,
        batch_tokens=padded / batches if batches and padded else None,
        compute_s_per_batch=busy_s / batches if batches and busy_s else None,
        batches=batches,
        padding_fraction=1 - tokens / padded if padded else None,
        start_up_s=float(start_ups.max()) if len(start_ups) else None,
        variants={
            variant: count for variant, count in memory.said.variants.counts(is_ready).items() if variant
        },
        highest_point_version=max(told_version, _believed_version(memory.versions)),
        reflex_fraction=happened.total("reflex_s_total") / float(happened.seconds.sum()),
        sm_clock_refused=memory.said.sm_clock_refused,
    )


def _believed_version(versions: NDArray[np.uint64]) -> int:
    """The highest in force, as far as it can be meant: a new point is numbered beyond it, and a number that
    the message does not hold could never be told. Who is further ahead of half of the fleet than any scaler
    can have decided has made it up.
    """
    median_low = int(np.sort(versions)[(len(versions) - 1) // 2])
    most = min(median_low + _MOST_AHEAD, _MOST_VERSION)
    return int(versions[versions <= np.uint64(most)].max(initial=0))


def _arrivals_rps(happened: Differences) -> float:
    """What a draining replica turned away comes again at another door. What waited when it stopped had come
    earlier: with nothing else to count, no fewer than none come."""
    return max(0.0, happened.per_second("arrivals_total") - happened.per_second("turned_away_total"))


def fleet_power(watts: NDArray[np.float64], said: Said) -> FleetPower:
    """Watts of the fleet, from each replica's (NaN: unknown). Two replicas on one device read the same watts,
    which count once."""
    known = ~np.isnan(watts)
    if not known.any():
        return FleetPower(None, "unknown")
    of_device = np.zeros(len(said.devices.values))
    of_device[said.devices.places[known]] = watts[known]
    source = "+".join(sorted(said.sources.counts(known)))
    return FleetPower(float(of_device.sum()) if known.all() else None, source)
