"""What is counted many at a time is counted all the same."""

from __future__ import annotations

import threading

import pytest
from ddsketch import DDSketch
from ddsketch.pb.ddsketch_pb2 import DDSketch as SketchMessage
from ddsketch.pb.proto import DDSketchProto
from hypothesis import given
from hypothesis import strategies as st

from service.counters import SKETCH_ACCURACY, Counters
from service.tally import FOLD_AT, Tally

BOUNDS = (0.001, 0.01, 0.1, 1)


@given(st.lists(st.floats(0.0, 5.0), max_size=3 * FOLD_AT))
def test_every_value_counts_into_each_bucket_that_holds_it(values: list[float]) -> None:
    tally = Tally(BOUNDS)
    for value in values:
        tally.observe(value)
    buckets, total = tally.cumulative()
    assert buckets == [
        *((f"{float(bound)}", sum(value <= bound for value in values)) for bound in BOUNDS),
        ("+Inf", len(values)),
    ]
    assert total == pytest.approx(sum(values))
    assert tally.cumulative() == (buckets, total)


def test_a_scrape_on_another_thread_loses_nothing() -> None:
    tally, stop = Tally(BOUNDS), threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            tally.cumulative()

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(20_000):
        tally.observe(0.05)
    stop.set()
    thread.join()
    assert tally.cumulative()[0][-1] == ("+Inf", 20_000)


@given(st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=300))
def test_the_sketch_is_that_of_the_values_one_by_one(latencies_s: list[float]) -> None:
    counters, one_by_one = Counters(), DDSketch(relative_accuracy=SKETCH_ACCURACY)
    for latency_s in latencies_s:
        counters.took(latency_s)
        one_by_one.add(latency_s)
    taken = DDSketchProto.from_proto(SketchMessage.FromString(counters.take_latency_sketch()))  # type: ignore[no-untyped-call]
    assert taken.count == len(latencies_s)
    for quantile in (0.0, 0.5, 0.99, 1.0):
        expected = one_by_one.get_quantile_value(quantile)
        assert taken.get_quantile_value(quantile) == pytest.approx(expected, rel=1e-6)
