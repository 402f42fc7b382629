"""Counts add up, and only grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.oip.statistics import ModelCounts, Took
from service.request import Cost

seconds = st.floats(0, 10)
took = st.builds(Took, seconds, seconds, seconds)
batches = st.integers(1, 4).flatmap(lambda texts: st.tuples(st.just(texts), st.integers(texts, 16)))


@given(st.lists(st.tuples(took, batches)), st.lists(seconds))
def test_what_is_told_is_the_sum(answered: list[tuple[Took, tuple[int, int]]], lost_s: list[float]) -> None:
    counts = ModelCounts()
    for one, (texts, batch) in answered:
        cost = Cost(queue_s=0.5, compute_s=0.25, batch_texts=batch)
        counts.answered(1000.0, one, texts, cost)
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
        counts.answered(0.0, Took(0.1, 0, 0), 1, Cost(compute_s=0.04, batch_texts=8))
    counts.answered(0.0, Took(0.1, 0, 0), 4, Cost(compute_s=0.02, batch_texts=4))
    told = counts.told("m", "1")
    assert (told.inference_count, told.execution_count) == (12, 2)
    sizes = {one.batch_size: (one.compute_infer.count, one.compute_infer.ns) for one in told.batch_stats}
    assert sizes == {8: (1, 40_000_000), 4: (1, 20_000_000)}


def test_what_the_cache_knew_is_a_hit_and_no_inference() -> None:
    """As Triton's: `success` and `queue` include hits, `compute_*` and the counts of inferences don't."""
    counts = ModelCounts()
    took = Took(latency_s=0.5, input_s=0.125, output_s=0.125)
    counts.answered(0.0, took, 2, Cost(compute_s=0.25, batch_texts=2))  # did not ask the cache
    counts.answered(0.0, took, 4, Cost(compute_s=0.25, batch_texts=3, cached_texts=1, cache_s=0.002))
    counts.answered(0.0, took, 4, Cost(cached_texts=4, cache_s=0.001))
    counts.answered(0.0, took, 1, Cost(cached_texts=1, cache_s=0.001))
    told = counts.told("m", "1")
    stats = told.inference_stats
    assert (told.inference_count, told.execution_count) == (5, 2)
    assert (stats.cache_hit.count, stats.cache_hit.ns) == (2, 2_000_000)
    assert (stats.cache_miss.count, stats.cache_miss.ns) == (1, 2_000_000)
    assert (stats.success.count, stats.success.ns) == (4, 2_000_000_000)
    assert stats.queue.count == 4
    computed = (stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [(one.count, one.ns) for one in computed] == [(2, 250_000_000), (2, 500_000_000), (2, 250_000_000)]
