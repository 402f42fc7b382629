"""Counts add up, and only grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import Usage
from service.oip.statistics import ModelCounts, Took

seconds = st.floats(0, 10)
took = st.builds(Took, seconds, seconds, seconds)
batches = st.integers(1, 4).flatmap(lambda texts: st.tuples(st.just(texts), st.integers(texts, 16)))


@given(st.lists(st.tuples(took, batches)), st.lists(seconds))
def test_what_is_told_is_the_sum(answered: list[tuple[Took, tuple[int, int]]], lost_s: list[float]) -> None:
    counts = ModelCounts()
    for one, (texts, batch) in answered:
        usage = Usage(queue_seconds=0.5, compute_seconds=0.25, batch_size=batch)
        counts.answered(1000.0, one, texts, usage)
    for latency_s in lost_s:
        counts.unanswered(2000.0, latency_s)
    told = counts.told("m", "1")
    stats = told.inference_stats
    assert told.inference_count == sum(texts for _, (texts, _) in answered)
    assert 0 <= told.execution_count <= len(answered)
    assert stats.success.ns == round(sum(one.latency_s for one, _ in answered) * 1e9)
    assert (stats.fail.count, stats.fail.ns) == (len(lost_s), round(sum(lost_s) * 1e9))
    durations = (stats.success, stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert {one.count for one in durations} == {len(answered)}
    assert told.last_inference == (2_000_000 if lost_s else 1_000_000 if answered else 0)


def test_a_text_counts_as_its_share_of_the_batch() -> None:
    counts = ModelCounts()
    for _ in range(8):  # eight requests of one text, computed together: one execution
        counts.answered(0.0, Took(0.1, 0, 0), 1, Usage(compute_seconds=0.04, batch_size=8))
    counts.answered(0.0, Took(0.1, 0, 0), 4, Usage(compute_seconds=0.02, batch_size=4))
    told = counts.told("m", "1")
    assert (told.inference_count, told.execution_count) == (12, 2)
    sizes = {one.batch_size: (one.compute_infer.count, one.compute_infer.ns) for one in told.batch_stats}
    assert sizes == {8: (1, 40_000_000), 4: (1, 20_000_000)}
