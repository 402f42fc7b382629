"""Reports in columns: nothing is lost on the way, and it does not matter which page a report came in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.bus import FleetView
from scaler.fleet_joules import FleetJoules
from scaler.latency_sketch import encode
from scaler.pages import COLUMN, PAGE, STATE_CODE, Page, Unread
from scaler.report import Metered, ReplicaState, Report, Unmetered
from scaler.signals import SignalMemory, SignalRules, Signals, observe

RULES = SignalRules(rate_window_s=0.9)
SKETCH = encode([0.01] * 3 + [0.2])

powers = st.one_of(
    st.just(Unmetered("no permission")),
    st.builds(
        Metered,
        st.sampled_from(["nvml", "modelled"]),
        st.sampled_from(["GPU-1", "GPU-2", "process:1"]),
        st.none() | st.floats(0, 100),
        st.none() | st.floats(0, 100),
    ),
)
reports = st.builds(
    Report,
    replica_id=st.sampled_from("abcd"),
    received_s=st.floats(0, 1),
    state=st.sampled_from(ReplicaState),
    power=powers,
    host=st.sampled_from("hi"),
    variant=st.sampled_from(["", "int8", "fp16"]),
    arrivals_total=st.integers(0, 99),
    refusals_total=st.dictionaries(st.sampled_from(["draining", "deadline", "invalid"]), st.integers(1, 9)),
    queue_depth=st.integers(0, 9),
    in_flight=st.integers(0, 9),
    latency_sketch=st.sampled_from([b"", SKETCH]),
    start_up_s=st.none() | st.floats(1, 9),
    operating_point_version=st.integers(0, 2**63),
    sm_clock_refused=st.sampled_from(["", "", "Insufficient Permissions"]),
)
fleets = st.lists(st.lists(reports, max_size=6), min_size=1, max_size=8)  # by second, each in any order


def at_their_time(seconds: list[list[Report]]) -> list[list[Report]]:
    return [
        sorted(
            (replace(one, received_s=second + one.received_s) for one in said), key=lambda one: one.received_s
        )
        for second, said in enumerate(seconds)
    ]


@given(st.lists(reports, min_size=1, max_size=6))
def test_a_page_holds_what_the_reports_say(said: list[Report]) -> None:
    page = Page.of(said)
    for one, row, words, version in zip(said, page.rows, page.words, page.versions, strict=True):
        for name in set(COLUMN) - {"state", "start_up_s", "watts", "joules_total"}:
            assert row[COLUMN[name]] == getattr(one, name)
        assert row[COLUMN["state"]] == STATE_CODE[one.state]
        watts, joules = (
            (one.power.watts, one.power.joules_total) if isinstance(one.power, Metered) else (None, None)
        )
        for name, value in {"start_up_s": one.start_up_s, "watts": watts, "joules_total": joules}.items():
            assert (None if math.isnan(row[COLUMN[name]]) else row[COLUMN[name]]) == value
        assert (words.replica_id, words.host, words.variant) == (one.replica_id, one.host, one.variant)
        assert int(version) == one.operating_point_version


@given(fleets, st.integers(1, 3), st.frozensets(st.sampled_from("abcd"), min_size=1))
def test_how_reports_fall_into_pages_changes_nothing(
    seconds: list[list[Report]], size: int, members: frozenset[str]
) -> None:
    together, apart = SignalMemory(), SignalMemory()
    for second, said in enumerate(at_their_time(seconds), start=1):
        together, one = observe(together, FleetView.of(members, said), float(second), RULES)
        pages = tuple(Page.of(said[begin : begin + size]) for begin in range(0, len(said), size))
        apart, other = observe(apart, FleetView(members, pages), float(second), RULES)
        assert shown(one) == shown(other)


def shown(seen: object) -> tuple[str, ...]:
    """Latencies by what is asked of them: they are compared as objects otherwise."""
    if not isinstance(seen, Signals):
        return (repr(seen),)
    kept = [seen.latencies, seen.recent_latencies]
    told = [None if one is None else (one.count, one.quantile_s(50), one.quantile_s(99)) for one in kept]
    return repr(replace(seen, latencies=None, recent_latencies=None)), repr(told)


@given(fleets)
def test_samples_count_but_of_who_warmed(seconds: list[list[Report]]) -> None:
    """The law itself, report by report."""
    memory, newest, counted = SignalMemory(), dict[str, Report](), 0
    for second, said in enumerate(at_their_time(seconds), start=1):
        for one in said:
            before = newest.get(one.replica_id)
            newest[one.replica_id] = one
            if before is not None and ReplicaState.STARTING not in (before.state, one.state):
                counted += 4 if one.latency_sketch else 0
        memory, _ = observe(memory, FleetView.of(frozenset("abcd"), said), float(second), RULES)
    latencies = memory.latencies(-math.inf)
    assert (0 if latencies is None else latencies.count) == counted


@dataclass
class OneByOne:
    """Joules of a fleet as they are defined: reading by reading."""

    owns_processes: bool
    total_j: float = 0.0
    highest_j: dict[tuple[str, ...], float] = field(default_factory=dict)
    last_j: dict[tuple[str, ...], float] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)

    def hears(self, one: Report) -> None:
        if not isinstance(one.power, Metered) or one.power.joules_total is None:
            return
        own, now_j = one.power.device.startswith("process:"), one.power.joules_total
        self.sources.add(one.power.source)
        device = (one.host, one.power.device, one.replica_id if own else "")
        known_j, last_j = self.highest_j.get(device), self.last_j.get((*device, one.replica_id), 0.0)
        self.last_j[(*device, one.replica_id)] = now_j
        if known_j is None:
            self.total_j += now_j if own and self.owns_processes else 0.0
        elif now_j < known_j and now_j < last_j:  # its counter began anew
            self.total_j += now_j
        else:
            self.total_j += max(0.0, now_j - known_j)
            now_j = max(now_j, known_j)
        self.highest_j[device] = now_j


@given(fleets, st.integers(1, 6), st.booleans())
def test_joules_of_pages_are_those_of_their_reports_one_by_one(
    seconds: list[list[Report]], size: int, owns_processes: bool
) -> None:
    account, law = FleetJoules(owns_processes), OneByOne(owns_processes)
    for said in seconds:
        account = account.after(Page.of(said[begin : begin + size]) for begin in range(0, len(said), size))
        for one in said:
            law.hears(one)
        assert (account.total_j or 0.0) == pytest.approx(law.total_j)
        assert (account.total_j is None) == (not law.highest_j)
        assert account.sources == law.sources


def test_unread_reports_are_handed_out_once_in_their_order() -> None:
    unread = Unread()
    said = [Report(f"r{index}", 0.0, ReplicaState.READY, Unmetered("")) for index in range(2 * PAGE + 1)]
    for one in said:
        unread.add(one)
    pages = unread.taken()
    assert [len(page.names) for page in pages] == [PAGE, PAGE, 1]
    assert [one for page in pages for one in page.reports] == said
    assert unread.taken() == ()


def test_of_too_many_reports_the_oldest_are_dropped() -> None:
    unread = Unread()
    for index in range(PAGE + 7):
        unread.add(Report(f"r{index}", 0.0, ReplicaState.READY, Unmetered("")))
        unread.keep(100)
    assert [name for page in unread.taken() for name in page.names][-1] == f"r{PAGE + 6}"
    unread.keep(0)
    for index in range(7):
        unread.add(Report(f"r{index}", 0.0, ReplicaState.READY, Unmetered("")))
        unread.keep(3)
    assert [name for page in unread.taken() for name in page.names] == ["r4", "r5", "r6"]


def test_words_that_a_replica_says_again_are_the_same_object() -> None:
    unread = Unread()
    pages = []
    for variant in ("int8", "int8", "fp16"):
        unread.add(Report("a", 0.0, ReplicaState.READY, Unmetered(""), variant="".join(variant)))
        pages += unread.taken()
    first, second, third = [page.words[0] for page in pages]
    assert first is second
    assert third.variant == "fp16"
