"""Mergeable latency quantiles as replicas report them. The only file of the scaler that imports ddsketch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from ddsketch import DDSketch
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.pb.ddsketch_pb2 import DDSketch as DDSketchMessage
from ddsketch.pb.proto import DDSketchProto
from google.protobuf.message import DecodeError

_MAX_BINS = 20_000  # at 1% accuracy 20,000 bins span far more than any latency: a larger store is damage


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles of the merged samples; 1% relative accuracy. Never empty: no samples is None instead."""

    count: float
    _merged: BaseDDSketch

    def quantile_s(self, percentile: float) -> float:
        value = self._merged.get_quantile_value(percentile / 100)
        return float(value) if value is not None else 0.0


def merge(sketches: Iterable[bytes]) -> Latencies | None:
    """DDSketches in protobuf form, as one. Empty or damaged ones are left out; None if no sample is left."""
    merged: BaseDDSketch | None = None
    for data in sketches:
        sketch = _decode(data) if merged is None else _decode_once(data)
        if sketch is None or sketch.count <= 0:
            continue
        if merged is None:
            merged = sketch
        else:
            try:
                merged.merge(sketch)
            except ValueError:  # another accuracy than the first one's
                continue
    return None if merged is None else Latencies(float(merged.count), merged)


def encode(latencies_s: Iterable[float]) -> bytes:
    """The samples as a replica sends them; for fakes and simulation."""
    sketch = DDSketch(relative_accuracy=0.01)
    for latency_s in latencies_s:
        sketch.add(latency_s)
    return bytes(DDSketchProto.to_proto(sketch).SerializeToString())  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1024)
def _decode_once(data: bytes) -> BaseDDSketch | None:
    """Each report is merged again on every beat of its window. The result is only read from."""
    return _decode(data)


def _decode(data: bytes) -> BaseDDSketch | None:
    if not data:
        return None
    message = DDSketchMessage()
    try:
        message.ParseFromString(data)
        if not (message.mapping.gamma > 1 and _sane(message.positiveValues) and message.zeroCount >= 0):
            return None
        sketch: BaseDDSketch = DDSketchProto.from_proto(message)  # type: ignore[no-untyped-call]
        highest_s = sketch.get_quantile_value(1.0)
        return sketch if highest_s is None or isfinite(highest_s) else None
    except (DecodeError, ValueError, OverflowError):
        return None


def _sane(store: Any) -> bool:  # a Store message: ddsketch has no stubs
    """Merging makes room for every bin between two stores: far apart, that is all of the memory."""
    bins = store.contiguousBinCounts
    near = len(bins) <= _MAX_BINS and abs(store.contiguousBinIndexOffset) <= _MAX_BINS
    return near and all(isfinite(count) and count >= 0 for count in bins)
