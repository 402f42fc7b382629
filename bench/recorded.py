"""A run of real processes for a simulation to repeat: when requests were sent, what the fleet was.

Reads the files that `minwatt up --record` and `minwatt replay --out` wrote. Owns nothing of the simulation
but the contender that repeats a recorded fleet. Called by `validate`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.fleet_log import FleetRow, joules_between
from loadtest.runs import read_run
from minwatt.v1.errors import UsageError
from scaler.operating_point import OperatingPoint
from scaler.simulate.contender import Seen, Wish

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run, real or simulated. Latencies are the server's: queue + compute."""

    p50_ms: float
    p99_ms: float
    batch_mean: float
    energy_j: float
    replicas_mean: float
    over_slo_fraction: float


@dataclass(frozen=True, slots=True)
class FleetSecond:
    """`at_s` from the run's start."""

    at_s: float
    ready: int
    max_batch_texts: int
    max_delay_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What was measured, and what led to it."""

    seconds: float
    sent_s: _Floats  # sorted
    fleet: tuple[FleetSecond, ...]
    text_tokens: float  # padded, mean of all batches
    figures: Figures


def read_recorded(run: Path, fleet_file: Path, slo_latency_s: float) -> Recorded:
    """`run`: the folder of `minwatt replay`. Raises UsageError when a file lacks what is needed."""
    data = read_run(run)
    record = data.record
    rows: list[dict[str, Any]] = [json.loads(line) for line in fleet_file.read_text().splitlines()]
    start_s = record.started_unix_s
    joules = joules_between([FleetRow(**row) for row in rows], start_s, start_s + record.span_s)
    if not isinstance(joules, float):
        raise UsageError(f"{fleet_file}: the joules of the run are not known: {joules}")
    served = [one for one in data.outcomes if one.server_s is not None and one.batch_size]
    if not served:
        raise UsageError(f"{run}: no request was answered")
    latency_s = np.array([one.server_s for one in served])
    over = int(np.count_nonzero(latency_s > slo_latency_s)) + len(data.outcomes) - len(served)
    fleet = tuple(_second(row, row["at_s"] - start_s) for row in rows if row["max_batch_texts"])
    within = [second.ready for second in fleet if 0 <= second.at_s <= record.span_s]
    return Recorded(
        seconds=record.span_s,
        sent_s=np.sort([one.sent_s for one in data.outcomes]),
        fleet=fleet,
        text_tokens=_padded_tokens([one.tokens for one in served if one.tokens], rows),
        figures=Figures(
            p50_ms=1e3 * float(np.quantile(latency_s, 0.5)),
            p99_ms=1e3 * float(np.quantile(latency_s, 0.99)),
            # Each request of a batch of b is 1/b of a batch.
            batch_mean=len(served) / sum(1 / one.batch_size for one in served if one.batch_size),
            energy_j=joules,
            replicas_mean=float(np.mean(within)),
            over_slo_fraction=over / len(data.outcomes),
        ),
    )


def _second(row: dict[str, Any], at_s: float) -> FleetSecond:
    return FleetSecond(at_s, row["replicas_ready"], row["max_batch_texts"], row["max_delay_s"])


def _padded_tokens(tokens: Sequence[int], rows: Sequence[dict[str, Any]]) -> float:
    """By the requests' own tokens and the share of padding that the fleet reported."""
    padding = [row["padding_fraction"] for row in rows if row["padding_fraction"] is not None]
    return float(np.mean(tokens)) / (1 - float(np.mean(padding)) if padding else 1.0)


class AsRecorded:
    """The recorded fleet again. It asks for a replica a start-up before it was seen to be ready."""

    name = "as recorded"
    period_s = 1.0

    def __init__(self, recorded: Recorded, slo_latency_s: float, max_tokens: int, start_up_s: float) -> None:
        self._fleet = recorded.fleet
        self._slo_latency_s = slo_latency_s
        self._max_tokens = max_tokens
        self._start_up_s = start_up_s

    def start(self, replicas: int) -> Wish:
        return Wish(replicas, self._point(self._at(0.0)))

    def decide(self, seen: Seen) -> Wish:
        ahead_s = seen.now_s + self._start_up_s
        coming = [one.ready for one in self._fleet if seen.now_s <= one.at_s <= ahead_s]
        now = self._at(seen.now_s)
        return Wish(max([now.ready, *coming]), self._point(now))

    @property
    def initial(self) -> int:
        return self._at(0.0).ready

    def _at(self, now_s: float) -> FleetSecond:
        before = [one for one in self._fleet if one.at_s <= now_s]
        return before[-1] if before else self._fleet[0]

    def _point(self, second: FleetSecond) -> OperatingPoint:
        return OperatingPoint(
            version=1,
            max_batch_texts=second.max_batch_texts,
            max_batch_tokens=self._max_tokens,
            max_delay_s=second.max_delay_s,
            slo_latency_s=self._slo_latency_s,
        )
