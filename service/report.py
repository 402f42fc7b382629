"""The replica's report to the fleet.

Pure but for taking the interval's sketch out of the counters. Called by `fleet` each second and on state
changes.
"""

from __future__ import annotations

from minwatt.v1.fleet_pb2 import ReplicaReport
from service.replica import Sources

NOT_DEMAND = ("quota", "identity")  # refusals


def report(sources: Sources, sequence: int, interval_s: float) -> ReplicaReport:
    """Cumulative fields count from the start; the sketch is of the `interval_s` since the last report.

    What a tenant sends beyond its quota, or without a valid key, is no demand on the fleet and no failure of
    it: more replicas would answer none of it. It is left out, of the arrivals too.
    """
    replica, counters = sources.replica, sources.counters
    refusals = dict(counters.refusals)
    uninvited = sum(refusals.pop(reason, 0) for reason in NOT_DEMAND)
    who = replica.identity
    return ReplicaReport(
        replica_id=who.replica_id,
        model=who.model,
        model_version=who.model_version,
        variant=who.variant,
        state=replica.state,
        interval_seconds=interval_s,
        sequence=sequence,
        arrivals_total=counters.arrivals - uninvited,
        completions_total=counters.completions,
        refusals_total=refusals,
        tokens_total=counters.tokens,
        padded_tokens_total=counters.padded_tokens,
        queue_depth=replica.waiting_texts,
        in_flight=counters.in_flight,
        latency_sketch=counters.take_latency_sketch(),
        batch_sizes_total=dict(counters.batch_sizes),
        busy_seconds_total=counters.busy_s,
        texts_total=counters.texts,
        power=sources.power.message(),
        start_up_seconds=replica.start_up_s,
        operating_point_version=replica.operating_point_version,
        pid=who.pid,
        host=who.host,
        address=replica.address,
        reflex_seconds_total=replica.reflex_s_total,
        sm_clock_mhz=sources.card_clock.in_force_mhz,
        sm_clock_refused=sources.card_clock.refused,
    )
