"""What a replica counted since its start, and its latencies since the last report.

Pure state. Written by `telemetry`, read by the reports.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ddsketch import DDSketch
from ddsketch.pb.proto import DDSketchProto

SKETCH_ACCURACY = 0.01  # relative; the fleet merges sketches only of the same accuracy


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
    latencies: DDSketch = field(default_factory=_sketch)

    def take_latency_sketch(self) -> bytes:
        """The interval's sketch of seconds in its own protobuf form; the next interval starts empty."""
        taken, self.latencies = self.latencies, _sketch()
        serialized: bytes = DDSketchProto.to_proto(taken).SerializeToString()  # type: ignore[no-untyped-call]
        return serialized
