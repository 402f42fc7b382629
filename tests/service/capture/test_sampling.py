"""What waits to be written is bounded, in order, and counted where it is dropped."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service.capture.rotation import Bounds, Kept, outlived
from service.capture.sampling import Sampling, Seen


def seen(number: int, size_bytes: int = 10, words: tuple[str, ...] | None = None) -> Seen:
    return Seen(float(number), "classify", "a", 1, None, size_bytes, 1.0, False, "OK", 0.01, words=words)


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 40)), max_size=60), st.integers(1, 8), st.integers(20, 100)
)
def test_each_request_is_taken_once_in_order_or_counted_as_dropped(
    steps: list[int | None], most: int, most_bytes: int
) -> None:
    """A step is a request of so many bytes with its text, or the writer's turn."""
    sampling = Sampling(1.0, keeps_texts=True, most=most, most_bytes=most_bytes)
    taken: list[Seen] = []
    waiting_bytes = added = 0
    for step in steps:
        if step is None:
            got = sampling.take(3)
            taken += got
            waiting_bytes -= sum(one.size_bytes for one in got)
        else:
            before = sampling.dropped
            sampling.add(seen(added, step, ("x",)))
            added += 1
            if sampling.dropped == before:
                waiting_bytes += step
            assert waiting_bytes <= most_bytes
    while got := sampling.take(3):
        taken += got
    assert len(taken) + sampling.dropped == added
    assert [one.arrived_s for one in taken] == sorted(one.arrived_s for one in taken)
    assert sampling.taken == len(taken)


def test_a_share_of_requests_is_sampled_each_by_itself() -> None:
    sampling = Sampling(0.25, draw=Random(7).random)
    wanted = [sampling.wanted() for _ in range(20_000)]
    assert abs(sum(wanted) / len(wanted) - 0.25) < 0.015
    after = [later for now, later in pairwise(wanted) if now]
    assert abs(sum(after) / len(after) - 0.25) < 0.03  # whatever became of the one before
    assert all(Sampling(1.0).wanted() for _ in range(100))


@given(
    st.lists(st.tuples(st.integers(0, 5_000_000), st.floats(0, 200)), max_size=30),
    st.integers(2**24, 2**26),
    st.floats(60, 150),
)
def test_what_stays_is_within_the_bounds_and_newer_than_what_goes(
    files: list[tuple[int, float]], total_bytes: int, keep_s: float
) -> None:
    bounds = Bounds(total_bytes, keep_s)
    kept = [Kept(Path(str(number)), *one) for number, one in enumerate(files)]
    gone = outlived(kept, bounds)
    stays = [one for one in kept if one not in gone]
    assert sum(one.size_bytes for one in stays) + bounds.file_bytes <= total_bytes
    assert all(one.age_s <= keep_s for one in stays)
    assert all(old.age_s >= new.age_s for old in gone for new in stays)
    if gone and gone[-1].age_s <= keep_s:  # nothing goes that need not
        newest = gone[-1]
        assert sum(one.size_bytes for one in (*stays, newest)) + bounds.file_bytes > total_bytes
