"""Mergeable latency quantiles as replicas report them. The only file of the scaler that knows DDSketch.

Sketches are merged by adding their bins: quick enough for 10,000 replicas a second (`make bench-scaler`).
They come from the wire and are not trusted: what is damaged is left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ddsketch import DDSketch
from ddsketch.pb.ddsketch_pb2 import DDSketch as DDSketchMessage
from ddsketch.pb.proto import DDSketchProto
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float64]

_ACCURACY = 0.01  # relative; replicas sketch with the same
_MAPPING: Any = DDSketchProto.to_proto(DDSketch(_ACCURACY)).mapping  # type: ignore[no-untyped-call]
# DDSketch's logarithmic mapping: bin k holds (γ^(k-1), γ^k], and stands for 2γ^k/(γ+1), at most 1% off.
_GAMMA: float = _MAPPING.gamma
_LOG_GAMMA = math.log(_GAMMA)
_LOWEST_KEY = -700  # 0.8 µs
_BINS = 1401  # up to 14 days: beyond lies damage
_MOST_SAMPLES = 1e12  # of one bin of one report
_FARTHEST_OFFSET = 1e6  # of a mapping: keeps what is computed from it finite
_OUR_MAPPING: bytes = _MAPPING.SerializeToString()
_DOUBLE = np.dtype("<f8")  # on the wire


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Samples in logarithmic bins: quantiles to 1%. Never empty: no samples is None instead."""

    count: float
    _zeros: float
    _bins: _Floats  # [_BINS]

    @classmethod
    def of_histogram(cls, latencies_s: ArrayLike, counts: ArrayLike) -> Latencies | None:
        """From values and how often each was seen; both [n]. For fakes and simulation.

        Values beyond what a sketch tells apart (0.8 µs to 14 days) count as the nearest that it does.
        """
        values, weights = np.asarray(latencies_s, dtype=np.float64), np.asarray(counts, dtype=np.float64)
        positive = values > 0
        places = _places(np.log(values[positive]))
        bins = np.zeros(_BINS)
        np.add.at(bins, places, weights[positive])
        return _of(bins, float(weights[~positive].sum()))

    def quantile_s(self, percentile: float) -> float:
        """The value whose rank is `percentile` % of the way from the first sample to the last."""
        rank = max(0.0, percentile / 100 * (self.count - 1))
        if rank < self._zeros:
            return 0.0
        reached = np.cumsum(self._bins)
        place = int(np.searchsorted(reached, rank - self._zeros, side="right"))
        last = int(np.searchsorted(reached, reached[-1]))  # rounding may put a rank at the very sum
        return float(_GAMMA ** (min(place, last) + _LOWEST_KEY) * 2 / (1 + _GAMMA))

    def share_over(self, latency_s: float) -> float:
        """Of the samples, those above; what shares a bin with it is not."""
        place = int(_places(np.array([math.log(max(latency_s, 1e-300))]))[0])
        return float(self._bins[place + 1 :].sum()) / self.count


def merge(sketches: Iterable[bytes]) -> Latencies | None:
    """DDSketches in protobuf form, as one. Empty or damaged ones are left out; None if no sample is left."""
    bins, zeros = np.zeros(_BINS), 0.0
    stores: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)  # by first bin and size
    for data in sketches:
        if not data:
            continue
        try:
            message = _RawDDSketch.FromString(data)
        except DecodeError:
            continue
        store, zero_count = message.positiveValues, message.zeroCount
        raw, place = store.contiguousBinCounts, store.contiguousBinIndexOffset - _LOWEST_KEY
        size, rest = divmod(len(raw), _DOUBLE.itemsize)
        if rest or not 0 <= zero_count <= _MOST_SAMPLES:
            continue
        if message.mapping == _OUR_MAPPING and 0 <= place <= _BINS - size:
            stores[place, size].append(raw)
        elif not _add_foreign(bins, message):
            continue
        zeros += zero_count
    for (place, size), raws in stores.items():
        counts = np.frombuffer(b"".join(raws), _DOUBLE).reshape(len(raws), size)
        bins[place : place + size] += _sane(counts).sum(axis=0)
    return _of(bins, zeros)


def combined(parts: Iterable[Latencies | None]) -> Latencies | None:
    """All of their samples; None if there are none."""
    bins, zeros = np.zeros(_BINS), 0.0
    for part in parts:
        if part is not None:
            bins += part._bins
            zeros += part._zeros
    return _of(bins, zeros)


def encode(latencies_s: Iterable[float]) -> bytes:
    """The samples as a replica sends them; for fakes and simulation."""
    sketch = DDSketch(relative_accuracy=_ACCURACY)
    for latency_s in latencies_s:
        sketch.add(latency_s)
    return bytes(DDSketchProto.to_proto(sketch).SerializeToString())  # type: ignore[no-untyped-call]


def _of(bins: _Floats, zeros: float) -> Latencies | None:
    count = zeros + float(bins.sum())
    return Latencies(count, zeros, bins) if count > 0 else None


def _sane(stores: _Floats) -> _Floats:
    """[stores, bins] without the rows that hold anything else than counts."""
    if stores.size == 0 or (stores.min() >= 0 and stores.max() <= _MOST_SAMPLES):  # NaN is neither
        return stores
    return stores[((stores >= 0) & (stores <= _MOST_SAMPLES)).all(axis=1)]


def _add_foreign(bins: _Floats, message: Any) -> bool:  # ddsketch has no stubs
    """Adds a sketch of another accuracy, or one with empty bins far out; False if it is damaged."""
    try:
        mapping, store = type(_MAPPING).FromString(message.mapping), message.positiveValues
    except DecodeError:
        return False
    counts = np.frombuffer(store.contiguousBinCounts, _DOUBLE)
    known = 1 < mapping.gamma < math.inf and mapping.interpolation == 0
    if not (known and abs(mapping.indexOffset) <= _FARTHEST_OFFSET and len(_sane(counts[np.newaxis]))):
        return False
    filled = np.flatnonzero(counts)
    keys = filled + float(store.contiguousBinIndexOffset) - mapping.indexOffset
    # Into the logarithm of what each bin stands for; by logarithms nothing overflows.
    logs = keys * math.log(mapping.gamma) + math.log(2) - math.log1p(mapping.gamma)
    if logs.size and np.abs(logs).max() > -_LOWEST_KEY * _LOG_GAMMA:
        return False
    bins += np.bincount(_places(logs), counts[filled], _BINS)
    return True


def _places(logs: _Floats) -> NDArray[np.intp]:
    """Of the bins that hold values with these natural logarithms."""
    keys = np.ceil(logs / _LOG_GAMMA - 1e-9)  # a bin's upper end is its own, whatever the rounding
    places: NDArray[np.intp] = np.clip(keys - _LOWEST_KEY, 0, _BINS - 1).astype(np.intp)
    return places


def _raw_twin() -> Any:
    """DDSketch's message with `bytes` for what need not be read piece by piece: the same on the wire."""
    original: Any = DDSketchMessage.DESCRIPTOR  # type: ignore[attr-defined]
    file = FileDescriptorProto.FromString(original.file.serialized_pb)
    for message in file.message_type:
        for field in message.field:
            if field.name in {"mapping", "contiguousBinCounts"}:
                field.type, field.label = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.LABEL_OPTIONAL
                field.ClearField("type_name")
                field.ClearField("options")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(original.full_name))


_RawDDSketch = _raw_twin()
