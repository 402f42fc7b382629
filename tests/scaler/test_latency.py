"""The closed prediction against a simulation of the same queue."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.latency import BatchServer, steady_state


def simulated(server: BatchServer, arrivals_tps: float, texts: int) -> tuple[float, float]:
    """(p99 in seconds, busy fraction) of `texts` Poisson arrivals, batch by batch."""
    rng = np.random.default_rng(5)
    at_s = np.cumsum(rng.exponential(1 / arrivals_tps, texts))
    latency_s = np.empty(texts)
    free_s = busy_s = 0.0
    first = 0
    while first < texts:
        last_of_full = first + server.max_batch_texts - 1
        full_s = at_s[last_of_full] if last_of_full < texts else math.inf
        start_s = max(free_s, min(full_s, at_s[first] + server.max_delay_s))
        arrived = int(np.searchsorted(at_s, start_s, side="right"))
        end = max(first + 1, min(first + server.max_batch_texts, arrived))
        free_s = start_s + server.service_s(end - first)
        busy_s += server.service_s(end - first)
        latency_s[first:end] = free_s - at_s[first:end]
        first = end
    return float(np.quantile(latency_s[texts // 10 :], 0.99)), busy_s / float(at_s[-1])


@pytest.mark.parametrize("load", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("delay_s", [0.0, 0.01])
@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize(("alpha_s", "beta_s"), [(0.002, 0.006), (0.004, 0.002)])
def test_tail_and_load_as_simulated(
    alpha_s: float, beta_s: float, size: int, delay_s: float, load: float
) -> None:
    server = BatchServer(alpha_s, beta_s, size, delay_s if size > 1 else 0.0)
    arrivals_tps = load * server.capacity_tps
    p99_s, busy = simulated(server, arrivals_tps, 15_000)
    predicted = steady_state(server, arrivals_tps, 99)
    assert 0.75 < predicted.tail_s / p99_s < 1.75
    assert predicted.busy_fraction == pytest.approx(busy, rel=0.12)


servers = st.builds(
    BatchServer,
    alpha_s=st.floats(1e-4, 0.02),
    beta_s_per_text=st.floats(1e-4, 0.02),
    max_batch_texts=st.integers(1, 64),
    max_delay_s=st.floats(0, 0.05),
)


@given(servers, st.floats(0.01, 1.5), st.floats(0.01, 1.5))
def test_more_arrivals_never_mean_less_load_or_a_shorter_tail(
    server: BatchServer, one: float, other: float
) -> None:
    low, high = sorted((one * server.capacity_tps, other * server.capacity_tps))
    calm, loaded = steady_state(server, low, 99), steady_state(server, high, 99)
    assert calm.load <= loaded.load
    assert calm.tail_s <= loaded.tail_s * (1 + 1e-6)
    assert 0 <= calm.busy_fraction <= loaded.busy_fraction + 1e-3


@given(servers, st.floats(0, 0.99))
def test_the_tail_is_at_least_the_compute_and_grows_with_the_percentile(
    server: BatchServer, load: float
) -> None:
    at = [steady_state(server, load * server.capacity_tps, percentile) for percentile in (50, 95, 99)]
    assert server.service_s(1) <= at[0].tail_s <= at[1].tail_s <= at[2].tail_s < math.inf


@given(servers, st.floats(1.0, 10.0))
def test_an_overload_has_no_steady_tail(server: BatchServer, load: float) -> None:
    assert steady_state(server, load * server.capacity_tps, 99).tail_s == math.inf
