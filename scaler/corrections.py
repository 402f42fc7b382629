"""Measured over predicted: service time, then latency and watts while the fleet is steady.

Pure. A profile is of another hour and of an unshared machine; its errors last, so they are learnt slowly,
and are bounded, so that one odd minute never bends the plan far. Called by `learning` once a tick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scaler.candidate import Candidate, Corrections
from scaler.profile import ServiceTime
from scaler.signals import Signals

_SERVICE_BOUNDS = (0.25, 4.0)
_LATENCY_BOUNDS = (0.8, 2.0)
_WATTS_BOUNDS = (0.5, 2.0)
_GAIN_UP = 0.3  # of a ratio above the present one: too little capacity is worse than too much
_GAIN_DOWN = 0.1
_BATCHES = 20  # a mean of fewer is of a few odd texts
_SAMPLES = 200  # a p99 of fewer is one or two requests
_LOAD_RANGE = (0.2, 0.85)  # the queue model is coarse below, and above it the tail hangs on the exact rate


@dataclass(frozen=True, slots=True)
class Running:
    """What the replicas were told to run at: the profile's line, times what the set clock is slower."""

    line: ServiceTime
    slower: float
    may_be_raised: bool  # the reflex may have raised the clock of some batches


def learn_service(before: Corrections, seen: Signals, running: Running) -> Corrections:
    """The compute of a batch, held against the profile's line at just the tokens that the batches had.

    Batches that a raised clock may have made faster than the line are not learnt from.
    """
    if seen.compute_s_per_batch is None or seen.batch_tokens is None or seen.batches < _BATCHES:
        return before
    line = running.line
    predicted_s = running.slower * (line.alpha_s + line.beta_s_per_token * seen.batch_tokens)
    ratio = seen.compute_s_per_batch / predicted_s
    if running.may_be_raised and ratio < 1:
        return before
    return replace(before, service=_towards(before.service, _bounded(ratio, _SERVICE_BOUNDS)))


def can_tell(seen: Signals, predicted: Candidate) -> bool:
    """Whether the samples and the load allow to hold a tail against its prediction."""
    samples = 0.0 if seen.latencies is None else seen.latencies.count
    return samples >= _SAMPLES and _LOAD_RANGE[0] <= predicted.load <= _LOAD_RANGE[1]


def learn_latency(
    before: Corrections, seen: Signals, predicted_tail_s: float, percentile: float
) -> Corrections:
    """Call it only while the fleet has been steady for as long as the samples reach back, and `can_tell`.

    Of the corrections only that of the service time is in the prediction.
    """
    if seen.latencies is None:
        return before
    ratio = _bounded(seen.latencies.quantile_s(percentile) / predicted_tail_s, _LATENCY_BOUNDS)
    return replace(before, latency=_towards(before.latency, ratio))


def learn_watts(
    before: Corrections, seen: Signals, predicted_w: float, budget_w: float | None, besides_w: float = 0.0
) -> Corrections:
    """Unknown watts leave the profile's as they are. Watts over the budget are believed at once.

    `besides_w`, what starting and loading takes, is planned with as it is: the error is of those that answer.
    """
    watts = seen.power.watts
    if watts is None or predicted_w <= 0:
        return replace(before, watts=1.0)
    ratio = _bounded((watts - besides_w) / predicted_w, _WATTS_BOUNDS)
    if budget_w is not None and watts > budget_w:
        return replace(before, watts=max(before.watts, ratio))
    return replace(before, watts=_towards(before.watts, ratio))


def _bounded(ratio: float, bounds: tuple[float, float]) -> float:
    return min(bounds[1], max(bounds[0], ratio))


def _towards(before: float, ratio: float) -> float:
    return before + (_GAIN_UP if ratio > before else _GAIN_DOWN) * (ratio - before)
