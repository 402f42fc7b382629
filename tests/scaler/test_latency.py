"""The closed prediction against a simulation of the same queue, against its exact solution, and its laws."""

from __future__ import annotations

import math
from itertools import repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.reflex import ReflexRule
from scaler.engine import Engine
from scaler.latency import BatchServer, Floats, mean_batch, tail_s
from scaler.simulate.replica import Replica, gamma_gaps
from scaler.simulate.rules import Rules

ENGINES = {
    "A100": (Engine(0.00051, 0.0000568, 55, 81, 331), 64),
    "T4": (Engine(0.00089, 0.000519, 20, 21.75, 71.29), 64),
    "CPU": (Engine(0.0019, 0.0041, 0.8, 5.5, 4.0), 16),
}
NEVER = 1e6  # seconds or texts: no slack, no reflex and no full queue in these runs


def simulated(server: BatchServer, arrivals_tps: float, texts: int) -> tuple[Floats, float, float]:
    """(latencies, texts of a mean batch, watts) of so many arrivals."""
    engine, most = server.engine, server.max_batch_texts
    rules = Rules(
        engine=engine,
        raised=engine,
        backlog_s_per_text=engine.service_s(most) / most,
        batch_texts=most,
        full_texts=most,
        delay_s=server.max_delay_s,
        due_s=NEVER,
        caution=1.0,
        slo_latency_s=NEVER,
        clock_delay_s=0.0,
        noise=0.0,
        queue_texts=int(NEVER),
        overload_texts=int(NEVER),
        reflex=ReflexRule(short_share=NEVER),
    )
    replica = Replica(rules, repeat(1.0))
    gaps = gamma_gaps(texts, server.arrival_c2, np.random.default_rng(5))
    arrivals_s = np.cumsum(gaps) / arrivals_tps
    replica.advance(arrivals_s.tolist(), math.inf)
    totals, seconds = replica.totals, float(arrivals_s[-1])
    watts = (totals.busy_j + engine.idle_w * (seconds - totals.busy_s)) / seconds
    return replica.answered().latency_s[texts // 20 :], totals.computed / totals.batches, watts


@pytest.mark.parametrize("load", [0.3, 0.85])
@pytest.mark.parametrize("delay_ms", [0, 10, 20])
@pytest.mark.parametrize("device", ENGINES)
def test_tail_batch_and_watts_are_as_simulated(device: str, delay_ms: int, load: float) -> None:
    engine, most = ENGINES[device]
    server = BatchServer(engine, most, delay_ms / 1000)
    rate = np.array([load * server.capacity_tps])
    latency_s, batch, watts = simulated(server, float(rate[0]), 300_000 if load > 0.6 else 100_000)
    for miss in (0.001, 0.0005):
        assert 0.78 < tail_s(server, rate, miss)[0] / np.quantile(latency_s, 1 - miss) < 1.35
    predicted = float(mean_batch(server, rate)[0])
    assert 0.6 < predicted / batch < 1.02
    assert engine.watts(float(rate[0]), predicted) == pytest.approx(watts, rel=0.06)


def waits(engine: Engine, most: int, arrivals_tps: float) -> tuple[Floats, Floats]:
    """(seconds, probabilities) of a text's wait without delay, from the queue's stationary distribution.

    The texts that wait when a batch ends are a Markov chain: what did not ride and what came meanwhile.
    """
    spare = 1 - arrivals_tps / engine.capacity_tps(most)
    states = np.arange(round(8 / spare) * most)  # beyond lies a part in ten million
    rides = np.minimum(np.maximum(states, 1), most)  # an idle engine takes the next text alone
    service_s = engine.alpha_s + engine.beta_s_per_text * rides
    left = np.maximum(states, 1) - rides
    comes = np.maximum(states[np.newaxis, :] - left[:, np.newaxis], -1)
    moves = np.where(comes >= 0, poisson(arrivals_tps * service_s[:, np.newaxis], np.maximum(comes, 0)), 0.0)
    moves /= moves.sum(axis=1, keepdims=True)
    balance = moves.T - np.eye(len(states))
    balance[-1] = 1.0
    often = np.linalg.solve(balance, np.eye(len(states))[-1])
    seconds: list[Floats] = [np.zeros(1)]
    weights: list[Floats] = [np.array([often[0] / arrivals_tps])]  # idle: no wait
    ahead = np.arange(len(states) + 20 * most)
    for nth in range(16):  # a text comes at any part of a batch's time
        part = (nth + 0.5) / 16
        for texts in range(1, most + 1):
            lasts_s = engine.service_s(texts)
            here = np.bincount(left[rides == texts], often[rides == texts], len(ahead)) * lasts_s / 16
            seen = np.convolve(here, poisson(arrivals_tps * lasts_s * part, np.arange(20 * most)))
            seconds.append(np.asarray((1 - part) * lasts_s + ahead // most * engine.service_s(most)))
            weights.append(seen[: len(ahead)])
    weight = np.concatenate(weights)
    return np.concatenate(seconds), weight / weight.sum()


def poisson(mean: Floats | float, counts: np.ndarray) -> Floats:
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, counts.max() + 1)))))
    return np.asarray(np.exp(counts * np.log(mean) - mean - log_factorials[counts]))


@pytest.mark.parametrize("load", [0.9, 0.95, 0.98])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("device", ENGINES)
def test_near_its_capacity_the_tail_is_that_of_the_exact_queue(device: str, most: int, load: float) -> None:
    engine = ENGINES[device][0]
    server = BatchServer(engine, most, 0.0)
    rate_tps = load * server.capacity_tps
    wait_s, weight = waits(engine, most, rate_tps)
    order = np.argsort(-wait_s)
    beyond = np.cumsum(weight[order])
    for miss in (0.01, 0.0005):
        exact_s = wait_s[order][int(np.searchsorted(beyond, miss))] + engine.service_s(most)
        assert tail_s(server, np.array([rate_tps]), miss)[0] == pytest.approx(exact_s, rel=0.1)


def test_bursty_arrivals_have_the_tail_that_is_simulated() -> None:
    engine, most = ENGINES["T4"]
    server = BatchServer(engine, most, 0.0, arrival_c2=4.0)
    for load in (0.5, 0.8):
        rate_tps = load * server.capacity_tps
        latency_s = simulated(server, rate_tps, 200_000)[0]
        ratio = tail_s(server, np.array([rate_tps]), 0.001)[0] / np.quantile(latency_s, 0.999)
        assert 0.75 < ratio < 1.5


servers = st.builds(
    BatchServer,
    engine=st.builds(
        Engine,
        alpha_s=st.floats(1e-4, 0.02),
        beta_s_per_text=st.floats(1e-5, 0.02),
        idle_w=st.just(20.0),
        batch_w=st.just(30.0),
        token_w=st.just(70.0),
    ),
    max_batch_texts=st.integers(1, 64),
    max_delay_s=st.floats(0, 0.05),
    arrival_c2=st.floats(0.5, 6),
)
undelayed = servers.map(
    lambda one: BatchServer(one.engine, one.max_batch_texts, 0.0, arrival_c2=one.arrival_c2)
)
misses = st.sampled_from([0.1, 0.01, 0.001, 0.0005])


@given(undelayed, misses)
def test_without_a_delay_more_arrivals_never_mean_a_shorter_tail(server: BatchServer, miss: float) -> None:
    tails = tail_s(server, np.linspace(0.01, 0.99, 60) * server.capacity_tps, miss)
    assert (np.diff(tails) >= -1e-3 * tails[1:]).all()


@given(servers, st.lists(st.floats(0, 1.5), min_size=1, max_size=8), misses)
def test_an_array_is_its_elements_one_by_one(server: BatchServer, loads: list[float], miss: float) -> None:
    rates = np.array(loads) * server.capacity_tps
    one_by_one = np.split(rates, len(rates))
    assert np.array_equal(tail_s(server, rates, miss), [tail_s(server, one, miss)[0] for one in one_by_one])
    assert np.array_equal(mean_batch(server, rates), [mean_batch(server, one)[0] for one in one_by_one])


@given(servers, st.floats(0, 0.99))
def test_the_tail_is_at_least_a_texts_compute_and_grows_with_the_percentile(
    server: BatchServer, load: float
) -> None:
    rate = np.array([load * server.capacity_tps])
    tails = [float(tail_s(server, rate, miss)[0]) for miss in (0.5, 0.05, 0.01, 0.0005)]
    assert server.engine.service_s(1) <= tails[0]
    assert tails == sorted(tails)
    assert math.isfinite(tails[-1])


@given(servers, st.floats(1.0, 10.0), misses)
def test_an_overload_has_no_steady_tail_and_full_batches(
    server: BatchServer, load: float, miss: float
) -> None:
    rate = np.array([load * server.capacity_tps])
    assert tail_s(server, rate, miss)[0] == math.inf
    assert mean_batch(server, rate)[0] == server.max_batch_texts


@given(servers, st.floats(0, 0.999))
def test_a_mean_batch_is_one_text_to_a_full_one_and_grows_with_the_rate(
    server: BatchServer, load: float
) -> None:
    batch, more = mean_batch(server, np.array([load, load + (1 - load) / 2]) * server.capacity_tps)
    assert 1 <= batch <= more * (1 + 1e-9) <= server.max_batch_texts * (1 + 1e-9)


@given(servers, st.floats(0, 0.999))
def test_what_comes_is_computed(server: BatchServer, load: float) -> None:
    """Batches of the mean size take no more time than there is."""
    rate = np.array([load * server.capacity_tps])
    batch = float(mean_batch(server, rate)[0])
    assert rate[0] / batch * server.engine.service_s(batch) <= 1 + 1e-6
