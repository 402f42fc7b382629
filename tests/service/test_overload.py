"""At three times what a replica carries: goodput stays, and who is let in is answered within the SLO.

The replica's own queue, prediction and admission on a simulated clock; its engine takes a given time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from service.admission import TARGET_FRACTION, Forecast, Margin, in_time
from service.dispatch import Batch, Dispatcher
from service.queue import BatchLimits
from service.request import ComputedBatch, Request
from service.service_time import ServiceTime, ServiceTimeEstimate
from service.waiting import Share
from tests.service.test_dispatch import job

ARRIVALS = 8_000
NOISE = 0.2  # of the engine's times, relative
LEARNING = 1_000  # of the first arrivals: the margin is unknown then


@dataclass(frozen=True)
class Run:
    goodput_rps: float
    p99_s: float
    refused: float


def overload(factor: float, truth: ServiceTime, slo_s: float) -> Run:
    draw = np.random.default_rng(1)
    lengths = np.clip(draw.lognormal(math.log(15), 0.6, 1000).astype(int), 3, 64).tolist()
    full_rps = 16 / truth.batch_s(16 * float(np.mean(lengths)))
    rate_rps = factor * full_rps
    arrivals_s = np.cumsum(draw.exponential(1 / rate_rps, ARRIVALS)).tolist()
    dispatcher = Dispatcher(BatchLimits(16, 2048, 0.005), ServiceTimeEstimate(), slo_s)
    for tokens in (16, 512):
        dispatcher.service_time.observe(tokens, truth.batch_s(tokens))
    margin, share = Margin(), Share()
    predicted: dict[Request, Forecast] = {}
    latencies_s: list[float] = []
    running: tuple[Batch, float, float] | None = None
    now_s, index, refused = 0.0, 0, 0
    while index < len(arrivals_s) or running or dispatcher.waiting_texts:
        wake_s = math.inf
        if running is None:
            step = dispatcher.step(now_s)
            if step.batch:
                padded = len(step.batch) * max(text.tokens for text in step.batch)
                took_s = truth.batch_s(padded) * float(draw.lognormal(0, NOISE))
                running = (step.batch, now_s, now_s + took_s)
            elif dispatcher.waiting_texts and step.wake_at_s is not None:
                wake_s = step.wake_at_s
        next_s = arrivals_s[index] if index < len(arrivals_s) else math.inf
        now_s = max(now_s, min(wake_s, next_s, running[2] if running else math.inf))
        if running is not None and running[2] <= now_s:
            batch, started_s, _ = running
            running = None
            padded = len(batch) * max(text.tokens for text in batch)
            computed = ComputedBatch([None] * len(batch), padded, started_s, now_s - started_s)  # type: ignore[list-item]
            for request, _ in dispatcher.complete(batch, computed, None, 0):
                took_s = now_s - request.arrived_s
                margin.learn(took_s, predicted.pop(request), slo_s)
                if request.arrived_s >= arrivals_s[LEARNING]:
                    latencies_s.append(took_s)
        while index < len(arrivals_s) and arrivals_s[index] <= now_s:
            at_s, tokens = arrivals_s[index], lengths[index % len(lengths)]
            due_s = at_s + TARGET_FRACTION * slo_s
            forecast = Forecast(
                engine_left_s=running[2] - now_s if running else 0.0,
                wait_s=dispatcher.wait_s(share, tokens, due_s, 0.0),
                own_s=dispatcher.service_time.current.batch_s(tokens),
            )
            if in_time(forecast, None, margin.margin_s, slo_s) is None:
                request = Request([job(tokens)], at_s, due_s)
                predicted[request] = forecast
                dispatcher.submit(request)
            else:
                refused += 1
            index += 1
    good = sum(latency_s <= slo_s for latency_s in latencies_s)
    return Run(
        good / (arrivals_s[-1] - arrivals_s[LEARNING]),
        float(np.percentile(latencies_s, 99)),
        refused / len(arrivals_s),
    )


@pytest.mark.parametrize(
    ("alpha_s", "beta_s", "slo_s"),
    [(0.004, 160e-6, 0.1), (0.001, 50e-6, 0.05), (0.003, 2e-6, 0.05), (0.004, 160e-6, 0.5)],
    ids=["slow CPU", "CPU", "GPU", "patient"],
)
def test_goodput_stays_and_the_tail_is_within_the_slo(alpha_s: float, beta_s: float, slo_s: float) -> None:
    truth = ServiceTime(alpha_s, beta_s)
    runs = {factor: overload(factor, truth, slo_s) for factor in (0.5, 1.0, 3.0)}
    best_rps = max(run.goodput_rps for run in runs.values())
    assert runs[3.0].goodput_rps >= 0.9 * best_rps, runs
    assert all(run.p99_s <= slo_s for run in runs.values()), runs
    assert runs[0.5].refused < 0.05
