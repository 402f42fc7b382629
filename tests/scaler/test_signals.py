"""Reports to signals: differences of counters, who is fresh, what is left out, what stays unknown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from ddsketch.pb.ddsketch_pb2 import DDSketch as DDSketchMessage
from ddsketch.pb.ddsketch_pb2 import IndexMapping, Store
from hypothesis import given
from hypothesis import strategies as st

from scaler.bus import FleetView
from scaler.latency_sketch import encode, merge
from scaler.report import Metered, ReplicaState, Report, Unmetered
from scaler.signals import Missing, SignalMemory, SignalRules, Signals, observe

RULES = SignalRules(rate_window_s=0.9)
READY, STARTING, DRAINING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.DRAINING


def report(name: str, at_s: float, state: ReplicaState = READY, **fields: object) -> Report:
    power = Metered("modelled", f"process:{name}", 10.0, 2.0)
    return replace(Report(name, at_s, state, power, "host"), **fields)  # type: ignore[arg-type]


def seen(*reports: Report, now_s: float, members: set[str] | None = None) -> Signals | Missing:
    """All reports, second by second, and what is seen at the end."""
    memory = SignalMemory()
    names = {one.replica_id for one in reports}
    result: Signals | Missing | None = None
    for at_s in [*sorted({one.received_s for one in reports if one.received_s < now_s}), now_s]:
        due = tuple(one for one in reports if one.received_s == at_s)
        joined = names if at_s < now_s or members is None else members
        memory, result = observe(memory, FleetView.of(frozenset(joined), due), at_s, RULES)
    assert result is not None
    return result


def signals(*reports: Report, now_s: float) -> Signals:
    result = seen(*reports, now_s=now_s)
    assert isinstance(result, Signals)
    return result


def test_rates_are_differences_over_the_time_between_reports() -> None:
    now = signals(
        report(
            "a",
            0.0,
            arrivals_total=100,
            completions_total=90,
            texts_total=180,
            refusals_total={"queue_full": 1},
        ),
        report(
            "a",
            2.0,
            arrivals_total=140,
            completions_total=120,
            texts_total=270,
            refusals_total={"queue_full": 5},
        ),
        report("b", 0.5, arrivals_total=5),
        report("b", 1.5, arrivals_total=15),
        now_s=2.0,
    )
    assert now.arrivals_rps == pytest.approx(40 / 2 + 10 / 1)
    assert now.completions_rps == pytest.approx(15)
    assert now.overload_refusals_rps == pytest.approx(2)
    assert now.texts_per_request == pytest.approx(3)


def test_a_counter_that_went_back_counts_from_its_new_zero() -> None:
    now = signals(report("a", 0.0, arrivals_total=1000), report("a", 1.0, arrivals_total=30), now_s=1.0)
    assert now.arrivals_rps == pytest.approx(30)


def test_what_a_draining_replica_turned_away_comes_again_elsewhere() -> None:
    now = signals(
        report("a", 0.0),
        report("a", 1.0, arrivals_total=20),
        report("b", 0.0, DRAINING),
        report("b", 1.0, DRAINING, arrivals_total=12, refusals_total={"draining": 8}),
        now_s=1.0,
    )
    assert now.arrivals_rps == pytest.approx(24)
    assert (now.refusals_rps, now.ready, now.draining) == (0.0, 1, 1)


def test_what_waited_as_a_replica_stopped_makes_no_rate_below_none() -> None:
    """The forecast takes roots of rates: one below zero would end the loop."""
    now = signals(
        report("a", 0.0),
        report("a", 1.0),
        report("b", 0.0, DRAINING, arrivals_total=9),
        report("b", 1.0, DRAINING, arrivals_total=9, refusals_total={"draining": 9}),
        now_s=1.0,
    )
    assert (now.arrivals_rps, now.last_rps) == (0.0, 0.0)


def test_a_refusal_that_more_replicas_would_not_help_is_no_overload() -> None:
    refusals = {"invalid": 7, "cancelled": 2, "deadline": 3}
    now = signals(report("a", 0.0), report("a", 1.0, refusals_total=refusals), now_s=1.0)
    assert (now.refusals_rps, now.overload_refusals_rps) == (pytest.approx(12), pytest.approx(3))


def test_samples_of_a_warming_replica_are_left_out() -> None:
    slow, quick = encode([0.9] * 50), encode([0.01] * 50)
    now = signals(
        report("a", 0.0, STARTING, latency_sketch=slow),
        report("a", 1.0, latency_sketch=slow),  # its first ready report covers warming too
        report("a", 2.0, latency_sketch=quick),
        now_s=2.0,
    )
    assert now.latencies is not None
    assert now.latencies.count == 50
    assert now.latencies.quantile_s(99) == pytest.approx(0.01, rel=0.02)


def test_recent_samples_are_those_of_the_rates_however_late_one_looks() -> None:
    reports = [report("a", s, latency_sketch=encode([0.01 * (s + 1)] * 10)) for s in (0.0, 1.0, 2.0)]
    recent = signals(*reports, now_s=2.95).recent_latencies
    assert recent is not None
    assert (recent.count, recent.quantile_s(50)) == (10, pytest.approx(0.03, rel=0.02))


@pytest.mark.parametrize(
    ("reports", "now_s", "reason"),
    [
        ([], 1.0, "no replica has joined"),
        ([report("a", 0.0, STARTING), report("a", 1.0, STARTING)], 1.0, "none of 1 joined replicas is ready"),
        ([report("a", 1.0)], 1.0, "no rate yet"),
        ([report("a", 0.0), report("a", 1.0)], 9.0, "1 of 1 ready replicas are silent"),
    ],
)
def test_too_little_is_missing_with_its_reason(reports: list[Report], now_s: float, reason: str) -> None:
    result = seen(*reports, now_s=now_s)
    assert isinstance(result, Missing)
    assert reason in result.reason


def test_a_bus_that_can_not_tell_says_why_and_nobody_is_gone() -> None:
    memory = SignalMemory()
    names = frozenset("ab")
    for second in range(3):
        said = tuple(report(name, float(second), arrivals_total=10 * second) for name in names)
        memory, _ = observe(memory, FleetView.of(names, said), float(second), RULES)
    blind = FleetView.of(names, (), problem="Redis is away")
    memory, soon = observe(memory, blind, 3.0, RULES)
    assert isinstance(soon, Signals), "a blink is none: what was said a second ago is still known"
    memory, later = observe(memory, blind, 9.0, RULES)
    assert later == Missing(9.0, "Redis is away", ready=2, in_flight={"a": 0, "b": 0}, silent=names)


def test_a_point_that_the_bus_keeps_counts_though_no_replica_follows_it() -> None:
    memory, view = SignalMemory(), FleetView.of(frozenset("a"), (report("a", 0.0),), told_version=57)
    memory, _ = observe(memory, view, 0.0, RULES)
    _, now = observe(memory, FleetView.of(view.members, (report("a", 1.0),), told_version=57), 1.0, RULES)
    assert isinstance(now, Signals)
    assert now.highest_point_version == 57


_MOST_TOLD = 2**63  # that a report may name


@given(
    told=st.integers(1, 10**7),
    behind=st.lists(st.integers(0, 10), min_size=2, max_size=5),
    made_up=st.lists(st.integers(0, _MOST_TOLD), max_size=2),
)
def test_a_version_that_a_minority_made_up_carries_no_fleet_away(
    told: int, behind: list[int], made_up: list[int]
) -> None:
    versions = [*(max(0, told - one) for one in behind), *made_up[: len(behind) - 1]]
    reports = [
        report(f"r{number}", at_s, operating_point_version=version)
        for number, version in enumerate(versions)
        for at_s in (0.0, 1.0)
    ]
    now = signals(*reports, now_s=1.0)
    assert max(versions[: len(behind)]) <= now.highest_point_version <= told + 2**32


@given(st.lists(st.integers(0, _MOST_TOLD), min_size=1, max_size=5))
def test_whatever_replicas_say_the_next_points_can_be_told_and_reported(versions: list[int]) -> None:
    reports = [
        report(f"r{number}", at_s, operating_point_version=version)
        for number, version in enumerate(versions)
        for at_s in (0.0, 1.0)
    ]
    assert signals(*reports, now_s=1.0).highest_point_version + 2**61 < _MOST_TOLD


def test_a_silent_minority_is_taken_to_do_as_the_others() -> None:
    chatty = [report(n, float(s), arrivals_total=10 * s) for n in "ab" for s in range(9)]
    now = signals(*chatty, report("c", 0.0), now_s=8.0)
    assert now.arrivals_rps == pytest.approx(3 * 10)
    assert (now.ready, now.silent) == (3, {"c"})


def test_a_replica_that_left_is_forgotten() -> None:
    both = [report(n, float(s), arrivals_total=10 * s, queue_depth=4) for n in "ab" for s in range(3)]
    result = seen(*both, now_s=2.5, members={"a"})
    assert isinstance(result, Signals)
    assert (result.ready, result.queue_depth, result.arrivals_rps) == (1, 4, pytest.approx(10))


def test_watts_of_one_device_count_once_and_unknown_watts_are_not_zero() -> None:
    card = Metered("nvml", "GPU-1", 5.0, 100.0)
    shared = [report(name, float(s), power=card) for name in "ab" for s in range(2)]
    assert signals(*shared, now_s=1.0).power.watts == 100.0
    broken = [report("c", float(s), power=Unmetered("GPU is lost")) for s in range(2)]
    power = signals(*shared, *broken, now_s=1.0).power
    assert (power.watts, power.source) == (None, "nvml")


@given(
    st.floats(), st.integers(-(2**31), 2**31 - 1), st.lists(st.floats(), min_size=1, max_size=3), st.floats()
)
def test_a_made_up_sketch_gives_finite_latencies_or_none(
    gamma: float, first_bin: int, counts: list[float], zeros: float
) -> None:
    message = DDSketchMessage(
        mapping=IndexMapping(gamma=gamma),
        positiveValues=Store(contiguousBinIndexOffset=first_bin, contiguousBinCounts=counts),
        zeroCount=zeros,
    )
    merged = merge([message.SerializeToString(), encode([0.02] * 10)])
    assert merged is not None
    assert math.isfinite(merged.quantile_s(99))


def test_the_last_interval_is_of_the_newest_two_reports() -> None:
    now = signals(
        *[report("a", float(s), arrivals_total=total) for s, total in enumerate([0, 10, 20, 50])],
        # A new operating point is answered out of turn: 10 ms say nothing of a rate.
        report("a", 3.01, arrivals_total=53),
        *[report("b", s + 0.5, arrivals_total=4 * s) for s in range(3)],
        now_s=3.2,
    )
    assert now.last_rps == pytest.approx(33 / 1.01 + 4)
    assert signals(report("a", 0.0), report("a", 0.1, arrivals_total=1), now_s=0.2).last_rps == 10.0


def test_a_sketch_that_covers_a_long_silence_is_left_out() -> None:
    slow = encode([0.9] * 50)
    now = signals(report("a", 0.0), report("a", 30.0, latency_sketch=slow), report("a", 31.0), now_s=31.0)
    assert now.latencies is None


def test_the_reflex_and_a_refused_clock_are_seen() -> None:
    now = signals(
        *[report("a", float(s), reflex_s_total=0.5 * s) for s in range(3)],
        *[report("b", float(s), sm_clock_refused="Insufficient Permissions") for s in range(3)],
        now_s=2.0,
    )
    assert now.reflex_fraction == pytest.approx(0.25)
    assert now.sm_clock_refused == "Insufficient Permissions"


Beat = tuple[
    frozenset[str], list[tuple[str, float, int]]
]  # members; who reports when, how many arrivals since

beats = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from("abc")),
        st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 0.9), st.integers(0, 9)), max_size=5),
    ),
    min_size=1,
    max_size=14,
)


def rate_one_by_one(histories: dict[str, list[Report]], now_s: float, window_s: float) -> float | None:
    """The law itself: each fresh replica's newest report against its newest old enough, or its oldest."""
    rates = []
    fresh = [h for h in histories.values() if now_s - h[-1].received_s <= RULES.fresh_s]
    for history in fresh:
        recent = [one for one in history if one.received_s >= now_s - RULES.latency_window_s]
        if len(recent) > 1:
            last = recent[-1]
            aged = [one for one in recent if one.received_s <= last.received_s - window_s]
            first = aged[-1] if aged else recent[0]
            seconds = max(1e-3, last.received_s - first.received_s)
            rates.append((last.arrivals_total - first.arrivals_total) / seconds)
    if not rates or len(fresh) < RULES.fresh_share * len(histories):
        return None
    return sum(rates) * len(histories) / len(rates)


@given(beats)
def test_rates_of_a_fleet_that_comes_and_goes_are_those_of_each_replica(steps: list[Beat]) -> None:
    memory, totals = SignalMemory(), dict.fromkeys("abc", 0)
    histories: dict[str, list[Report]] = {}
    for second, (members, words) in enumerate(steps):
        said = []
        for name, phase_s, arrivals in sorted(words, key=lambda word: word[1]):
            totals[name] += arrivals
            said.append(report(name, second + phase_s, arrivals_total=totals[name]))
        now_s = second + 1.0
        before = memory
        memory, now = observe(before, FleetView.of(members, tuple(said)), now_s, RULES)
        assert repr(observe(before, FleetView.of(members, tuple(said)), now_s, RULES)[1]) == repr(now)
        histories = {name: history for name, history in histories.items() if name in members}
        for one in said:
            if one.replica_id in members:
                histories.setdefault(one.replica_id, []).append(one)
        expected = rate_one_by_one(histories, now_s, RULES.rate_window_s)
        if expected is None:
            assert isinstance(now, Missing)
        else:
            assert isinstance(now, Signals)
            assert now.arrivals_rps == pytest.approx(expected)
            assert now.last_rps == pytest.approx(rate_one_by_one(histories, now_s, 0.5))
