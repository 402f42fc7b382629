"""What a replica counted since its start, and its latencies since the last report.

Pure state. Written by `telemetry`, read by the reports.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from ddsketch import DDSketch
from ddsketch.pb.proto import DDSketchProto

FOLD_AT = 1024  # latencies that wait for the sketch: one at a time it takes 1 µs each
SKETCH_ACCURACY = 0.01  # relative; the fleet merges sketches only of the same accuracy
LOG_GAMMA = math.log((1 + SKETCH_ACCURACY) / (1 - SKETCH_ACCURACY))  # a bin's width, in logarithms
LEAST_LATENCY_S = 1e-9


def _sketch() -> DDSketch:
    return DDSketch(relative_accuracy=SKETCH_ACCURACY)


@dataclass(slots=True)
class Counters:
    """Cumulative, so that a lost report loses nothing; only the sketch is of an interval."""

    arrivals: int = 0
    completions: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    busy_s: float = 0.0
    in_flight: int = 0
    _latencies: DDSketch = field(default_factory=_sketch)
    _latencies_s: list[float] = field(default_factory=list)  # not yet in the sketch

    def took(self, latency_s: float) -> None:
        """A request was answered."""
        self._latencies_s.append(latency_s)
        if len(self._latencies_s) >= FOLD_AT:
            self._fold()

    def take_latency_sketch(self) -> bytes:
        """The interval's sketch of seconds in its own protobuf form; the next interval starts empty."""
        self._fold()
        taken, self._latencies = self._latencies, _sketch()
        serialized: bytes = DDSketchProto.to_proto(taken).SerializeToString()  # type: ignore[no-untyped-call]
        return serialized

    def _fold(self) -> None:
        """Once for all that share a bin of the sketch: their mean is in that bin too."""
        latencies_s = np.maximum(self._latencies_s, LEAST_LATENCY_S)
        self._latencies_s.clear()
        _, bins = np.unique(np.ceil(np.log(latencies_s) / LOG_GAMMA), return_inverse=True)
        counts = np.bincount(bins)
        means_s = np.bincount(bins, latencies_s) / counts
        for mean_s, count in zip(means_s.tolist(), counts.tolist(), strict=True):
            self._latencies.add(mean_s, count)
