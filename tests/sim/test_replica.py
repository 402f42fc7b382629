"""One replica batches as the server's queue does, and loses nothing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1.reflex import Reflex, ReflexRule
from scaler.engine import Engine
from scaler.simulate import rules as simulated
from scaler.simulate.replica import Replica, gamma_gaps, noise_factors
from scaler.simulate.rules import Rules, rules_of
from service import admission
from service.queue import BatchLimits, BatchQueue
from service.service_time import ServiceTime
from service.waiting import WaitingText
from tests.sim.worlds import point, world

# Sums and differences of such numbers are exact: both sides then meet the same instants.
TICK_S = 2.0**-16
ALPHA_S = 2.0**-10
TOKENS = 16
BETA_S = 2.0**-18  # a token
SLO_S = 2.0**-6
ENGINE = Engine(ALPHA_S, BETA_S * TOKENS, idle_w=50, batch_w=80, token_w=300)


CALM = ReflexRule(short_share=1e9)  # never raised
# For good, once raised; and at a share that no sum of exact numbers meets.
HOLDING = ReflexRule(short_share=0.2499, back_share=0.1, hold_s=1e3, longest_hold_s=1e3)


def rules(texts: int, delay_ticks: int, due_ticks: int, token_texts: int, reflex: ReflexRule = CALM) -> Rules:
    """No noise, one clock, no bound on the queue."""
    by_tokens = token_texts < texts
    return Rules(
        engine=ENGINE,
        raised=ENGINE,
        backlog_s_per_text=ALPHA_S / min(texts, token_texts) + BETA_S * TOKENS,
        batch_texts=min(texts, token_texts),
        full_texts=token_texts + 1 if by_tokens else texts,
        delay_s=delay_ticks * TICK_S,
        due_s=due_ticks * TICK_S,
        caution=1.0,
        slo_latency_s=SLO_S,
        clock_delay_s=0.0,
        noise=0.0,
        queue_texts=1_000_000,
        overload_texts=1_000_000,
        reflex=reflex,
    )


def batches_of_queue(
    arrivals_s: list[float], limits: BatchLimits, due_s: float, rule: ReflexRule = CALM
) -> Counter[float]:
    """Texts by the end of their batch, as the server has it: it looks at each arrival, and around a batch."""
    queue: BatchQueue[int] = BatchQueue()
    reflex = Reflex(rule)
    service_time = ServiceTime(ALPHA_S, BETA_S)
    coming = [
        WaitingText(n, TOKENS, arrived_s, arrived_s + due_s, math.inf)
        for n, arrived_s in enumerate(arrivals_s)
    ]
    ends: Counter[float] = Counter()
    now_s = 0.0
    while coming or len(queue):
        while coming and coming[0].arrived_s <= now_s:
            arrived_s = coming[0].arrived_s
            queue.add(coming.pop(0))
            reflex.update(arrived_s, now_s - arrived_s + queue.backlog_s(limits, service_time), SLO_S)
        reflex.update(now_s, queue.backlog_s(limits, service_time), SLO_S)
        own = replace(limits, max_delay_s=0.0) if reflex.raised else limits
        poll = queue.poll(now_s, own, service_time)
        if poll.batch:
            computing_s = service_time.batch_s(len(poll.batch) * TOKENS)
            reflex.update(now_s, computing_s + queue.backlog_s(limits, service_time), SLO_S)
            now_s += computing_s
            ends[now_s] += len(poll.batch)
        else:
            wakes_s = [poll.wake_at_s] if poll.wake_at_s is not None else []
            now_s = min(wakes_s + [text.arrived_s for text in coming[:1]])
    return ends


@settings(max_examples=300, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    texts=st.integers(1, 12),
    token_texts=st.integers(1, 14),
    delay_ticks=st.integers(0, 1500),
    due_ticks=st.integers(30, 1200),
    reflex=st.sampled_from([CALM, HOLDING]),
)
def test_batches_leave_as_from_the_servers_queue(
    gaps: list[int], texts: int, token_texts: int, delay_ticks: int, due_ticks: int, reflex: ReflexRule
) -> None:
    arrivals_s = (np.cumsum(gaps) * TICK_S).tolist()
    replica = Replica(rules(texts, delay_ticks, due_ticks, token_texts, reflex), noise_factors(0, 0))
    replica.advance(list(arrivals_s), math.inf)
    answered = replica.answered()
    limits = BatchLimits(texts, token_texts * TOKENS, delay_ticks * TICK_S)
    assert Counter((answered.arrived_s + answered.latency_s).tolist()) == batches_of_queue(
        arrivals_s, limits, due_ticks * TICK_S, reflex
    )


@settings(max_examples=60, deadline=None)
@given(
    load=st.floats(0.05, 1.3),
    delay_s=st.sampled_from([0.0, 0.003, 0.02]),
    slow=st.booleans(),
    parts=st.lists(st.floats(0, 0.3), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_advancing_in_parts_is_advancing_at_once(
    load: float, delay_s: float, slow: bool, parts: list[float], seed: int
) -> None:
    own = rules_of(world([1.0]), point(delay_s, slow=slow))
    gaps = gamma_gaps(3_000, 1.0, np.random.default_rng(seed))
    arrivals_s = np.cumsum(gaps) / (load * own.capacity_rps)
    whole, parted = (Replica(own, noise_factors(0.05, seed)) for _ in range(2))
    whole.advance(arrivals_s.tolist(), math.inf)
    cuts_s = [*np.cumsum(parts).tolist(), math.inf]
    before_s = 0.0
    for until_s in cuts_s:
        some = arrivals_s[(arrivals_s >= before_s) & (arrivals_s < until_s)]
        parted.advance(some.tolist(), until_s)
        before_s = until_s
    assert whole.totals == parted.totals
    np.testing.assert_array_equal(whole.answered().latency_s, parted.answered().latency_s)


@settings(max_examples=30, deadline=None)
@given(load=st.floats(0.2, 3.0), bound=st.integers(1, 80), seed=st.integers(0, 99))
def test_every_request_is_answered_or_refused(load: float, bound: int, seed: int) -> None:
    own = replace(rules_of(world([1.0]), point()), queue_texts=bound, overload_texts=bound)
    arrivals_s = np.cumsum(gamma_gaps(2_000, 1.0, np.random.default_rng(seed))) / (load * own.capacity_rps)
    replica = Replica(own, noise_factors(0.05, seed))
    replica.advance(arrivals_s.tolist(), math.inf)
    answered = replica.answered()
    assert len(answered.latency_s) + replica.totals.refused == 2_000
    assert replica.totals.computed == len(answered.latency_s)
    assert replica.waiting == 0
    # Waits for at most what was let in, in batches that the noise makes a quarter longer at worst.
    worst_s = 1.3 * own.engine.service_s(own.batch_texts) * (bound / own.batch_texts + 2)
    assert answered.latency_s.max() <= worst_s
    assert answered.latency_s.min() > 0


def test_noise_has_mean_one_and_the_deviation_asked_for() -> None:
    factors = noise_factors(0.2, 3)
    some = np.array([next(factors) for _ in range(20_000)])
    assert some.mean() == pytest.approx(1, abs=0.01)
    assert some.std() == pytest.approx(0.2, abs=0.01)
    assert some.min() > 0


def burst(slow: bool) -> Replica:
    """400 requests in 2 ms, and one later, at a replica that waits long for company."""
    own = rules_of(world([1.0], service_noise=0.0), point(0.02, slow=slow))
    replica = Replica(own, noise_factors(0, 0))
    replica.advance([*np.linspace(0, 0.002, 400).tolist(), 2.0, 4.0], math.inf)
    return replica


def test_the_reflex_takes_the_full_clock_after_its_delay_and_gives_it_back() -> None:
    slow, full = burst(slow=True), burst(slow=False)
    size = 64
    engine, raised = (rules_of(world([1.0]), point(slow=yes)).engine for yes in (True, False))
    # All 400 texts leave within the clock's delay, so at the slow clock; the first later one too, after hold.
    expected_j = sum(engine.batch_j(n) for n in (*[size] * 6, 400 - 6 * size, 1, 1))
    assert slow.totals.busy_j == pytest.approx(expected_j)
    assert full.totals.busy_j == pytest.approx(
        sum(raised.batch_j(n) for n in (*[size] * 6, 400 - 6 * size, 1, 1))
    )


def test_a_raised_replica_computes_a_long_burst_at_the_full_clock() -> None:
    own = rules_of(world([1.0], service_noise=0.0), point(slow=True))
    replica = Replica(own, noise_factors(0, 0))
    replica.advance(np.linspace(0, 0.01, 1_000).tolist(), math.inf)
    at_slow, at_full = own.engine.service_s(64), own.raised.service_s(64)
    assert replica.totals.busy_s < 16 * at_slow
    assert replica.totals.busy_s > 16 * at_full * 0.95


def test_a_crash_loses_what_waits_and_what_is_computed() -> None:
    own = rules_of(world([1.0]), point())
    replica = Replica(own, noise_factors(0, 0))
    replica.advance([0.0, 0.0001, 0.0002], 0.0003)
    assert replica.lost(0.0003) == (2, 1)
    assert replica.lost(10.0)[1] == 0


@settings(max_examples=20, deadline=None)
@given(load=st.floats(1.05, 3.0), texts=st.sampled_from([1, 8, 64]), seed=st.integers(0, 99))
def test_an_overloaded_replica_refuses_the_excess_and_answers_the_rest_in_time(
    load: float, texts: int, seed: int
) -> None:
    own = rules_of(world([1.0]), point(texts=texts))
    assert own.overload_batch_texts == own.batch_texts, "on a fast card full batches are in time"
    count = 60_000
    gaps = gamma_gaps(count, 1.0, np.random.default_rng(seed))
    replica = Replica(own, noise_factors(0.05, seed))
    replica.advance((np.cumsum(gaps) / (load * own.capacity_rps)).tolist(), math.inf)
    latency_s = replica.answered().latency_s
    excess = 1 - 1 / load
    # The margin for what the predicted wait misses refuses some more with large batches: at most 2.1 % of
    # all in 12 seeds.
    assert replica.totals.refused / count == pytest.approx(excess, abs=0.03)
    assert (latency_s > own.slo_latency_s).mean() < 1e-3


def test_the_simulated_server_admits_by_the_servers_own_numbers() -> None:
    assert simulated.DUE_SHARE == admission.TARGET_FRACTION
    assert simulated.OFFERED_OVER_S == admission.OFFERED_OVER_S
    assert (simulated.SPARE_LOAD, simulated.FULL_LOAD) == (admission.SPARE_LOAD, admission.FULL_LOAD)
