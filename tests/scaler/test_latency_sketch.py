"""Sketches of many replicas as one: the same quantiles as all the samples have, whatever else came in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ddsketch import DDSketch
from ddsketch.pb.ddsketch_pb2 import DDSketch as DDSketchMessage
from ddsketch.pb.ddsketch_pb2 import IndexMapping, Store
from ddsketch.pb.proto import DDSketchProto
from hypothesis import given
from hypothesis import strategies as st

from scaler.latency_sketch import Latencies, combined, encode, merge

LATENCIES = st.floats(1e-5, 1e3) | st.just(0.0)
GROUPS = st.lists(st.lists(LATENCIES, max_size=20), min_size=1, max_size=6).filter(any)
OURS = encode([0.02] * 10)
GAMMA = 1.01 / 0.99


def exact_s(samples: list[float], percentile: float) -> float:
    ordered = sorted(samples)
    return ordered[math.floor(percentile / 100 * (len(ordered) - 1) + 1e-9)]


def lossy(value: float) -> object:
    return pytest.approx(value, rel=0.0101)


@given(GROUPS, st.sampled_from([0, 50, 90, 99, 100]))
def test_merged_quantiles_are_those_of_all_samples(groups: list[list[float]], percentile: float) -> None:
    samples = [sample for group in groups for sample in group]
    merged = merge(encode(group) for group in groups)
    assert merged is not None
    assert merged.count == len(samples)
    assert merged.quantile_s(percentile) == lossy(exact_s(samples, percentile))


@given(GROUPS)
def test_it_does_not_matter_when_they_are_merged(groups: list[list[float]]) -> None:
    at_once = merge(encode(group) for group in groups)
    one_by_one = combined(merge([encode(group)]) for group in groups)
    histogram = Latencies.of_histogram([s for group in groups for s in group], [1] * sum(map(len, groups)))
    assert at_once is not None
    assert one_by_one is not None
    assert histogram is not None
    for percentile in (0, 50, 99, 100):
        assert one_by_one.quantile_s(percentile) == at_once.quantile_s(percentile)
        assert histogram.quantile_s(percentile) == at_once.quantile_s(percentile)
    assert combined([None]) is None
    assert Latencies.of_histogram([], []) is None


def test_a_histogram_may_have_weights_that_are_no_numbers_of_samples() -> None:
    latencies = Latencies.of_histogram(np.array([0.01, 0.1, 1e9]), np.array([0.05, 0.15, 0.0]))
    assert latencies is not None
    assert latencies.count == pytest.approx(0.2)
    assert latencies.quantile_s(50) in (lossy(0.01), lossy(0.1))
    assert latencies.quantile_s(100) == lossy(0.01)


def test_a_sketch_of_another_accuracy_counts_too() -> None:
    coarse = DDSketch(relative_accuracy=0.05)
    for sample in [0.0, *[0.1] * 9]:
        coarse.add(sample)
    merged = merge([DDSketchProto.to_proto(coarse).SerializeToString(), OURS])
    assert merged is not None
    assert merged.count == 20
    assert merged.quantile_s(0) == 0.0
    assert merged.quantile_s(99) == pytest.approx(0.1, rel=0.06)


def sketch(store: Store, gamma: float = GAMMA, **fields: object) -> bytes:
    mapping = IndexMapping(gamma=gamma)
    return bytes(DDSketchMessage(mapping=mapping, positiveValues=store, **fields).SerializeToString())


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x00",
        b"\xff\xff damaged",
        encode([]),
        encode([0.5])[:-1],
        sketch(Store()),
        sketch(Store(contiguousBinCounts=[5.0, -1.0])),
        sketch(Store(contiguousBinCounts=[math.nan])),
        sketch(Store(contiguousBinCounts=[math.inf])),
        sketch(Store(contiguousBinCounts=[1.0], contiguousBinIndexOffset=2**31 - 1)),
        sketch(Store(contiguousBinCounts=[1.0]), zeroCount=-1.0),
        sketch(Store(contiguousBinCounts=[1.0]), zeroCount=math.nan),
        sketch(Store(contiguousBinCounts=[1.0]), gamma=1.0),
        sketch(Store(contiguousBinCounts=[1.0]), gamma=math.inf),
        sketch(Store(contiguousBinCounts=[0.0, 1.0], contiguousBinIndexOffset=2), gamma=1e300),
    ],
)
def test_what_is_damaged_is_left_out(damaged: bytes) -> None:
    merged = merge([damaged, OURS, damaged])
    assert merged is not None
    assert merged.count == 10
    assert merged.quantile_s(99) == lossy(0.02)
    assert merge([damaged]) is None


def test_empty_bins_far_out_do_no_harm() -> None:
    counts = [*[0.0] * 3000, 1.0]
    merged = merge([sketch(Store(contiguousBinCounts=counts, contiguousBinIndexOffset=-3200))])
    assert merged is not None
    assert merged.quantile_s(50) == lossy(2 / (1 + GAMMA) * GAMMA**-200)
