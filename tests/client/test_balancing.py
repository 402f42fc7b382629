"""Which connection carries what."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from minwatt.balancing import SUSPECT_S, Balancer


@given(st.integers(1, 8), st.integers(0, 200))
def test_requests_in_flight_spread_evenly(connections: int, requests: int) -> None:
    balancer = Balancer(connections)
    taken = Counter(balancer.take(0.0) for _ in range(requests))
    counts = [taken[index] for index in range(connections)]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 8), st.integers(1, 50))
def test_one_request_at_a_time_goes_round(connections: int, rounds: int) -> None:
    balancer = Balancer(connections)
    taken = []
    for _ in range(connections * rounds):
        taken.append(balancer.take(0.0))
        balancer.give_back(taken[-1])
    assert set(Counter(taken).values()) == {rounds}


@given(st.integers(2, 8), st.data())
def test_failed_connections_are_passed_over_while_another_looks_well(
    connections: int, data: st.DataObject
) -> None:
    balancer = Balancer(connections)
    failed = data.draw(st.sets(st.integers(0, connections - 1), min_size=1, max_size=connections))
    others = [balancer.failed(connection, 0.0) for connection in failed]
    assert others[-1] == (len(failed) < connections)
    taken = {balancer.take(0.5) for _ in range(3 * connections)}
    well = set(range(connections)) - failed
    assert taken == (well or failed)
    assert {balancer.take(SUSPECT_S) for _ in range(10 * connections)} >= failed, (
        "later they get their chance"
    )


def test_an_answer_clears_the_suspicion() -> None:
    balancer = Balancer(2)
    balancer.failed(0, 0.0)
    balancer.worked(0)
    assert {balancer.take(0.1), balancer.take(0.1)} == {0, 1}


def test_a_slow_connection_gets_fewer() -> None:
    balancer = Balancer(2)
    slow = balancer.take(0.0)  # never given back
    for _ in range(10):
        quick = balancer.take(0.0)
        assert quick != slow
        balancer.give_back(quick)
