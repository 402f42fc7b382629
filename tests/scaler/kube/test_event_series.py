from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.event_series import (
    COUNT_EVERY_S,
    QUIET_S,
    TOLD_ONE_BY_ONE,
    Count,
    Create,
    Noted,
    SeriesState,
    after,
    forgotten,
)


def noted(note: str = "3 → 4 replicas", reason: str = "ScaledUp") -> Noted:
    return Noted("uid-1", "Normal", reason, "Scale", note)


def test_what_happens_again_is_counted_at_once_and_then_now_and_then() -> None:
    state, write = after(SeriesState(), noted(), 0.0)
    assert write == Create(noted(), 0.0)
    state, write = after(state, noted(), 10.0)
    assert write == Count(noted(), 2, 10.0)  # the server asks for 2 at least
    for second in range(11, 40):
        state, write = after(state, noted(), float(second))
        assert write is None
    state, write = after(state, noted(), 10.0 + COUNT_EVERY_S)
    assert write == Count(noted(), 32, 40.0)


def test_after_a_quiet_time_it_is_told_anew() -> None:
    state, _ = after(SeriesState(), noted(), 0.0)
    _, write = after(state, noted(), QUIET_S)
    assert isinstance(write, Create)


def test_an_event_that_the_server_dropped_is_told_anew() -> None:
    state, _ = after(SeriesState(), noted(), 0.0)
    _, write = after(forgotten(state, noted()), noted(), 1.0)
    assert isinstance(write, Create)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 40.0), st.integers(0, 30), st.sampled_from(["ScaledUp", "ScaledDown"])),
        max_size=200,
    )
)
def test_it_is_never_a_flood_and_every_count_is_of_an_event_that_was_created(
    happenings: list[tuple[float, int, str]],
) -> None:
    state, now_s, created, writes = SeriesState(), 0.0, set(), []
    for step_s, number, reason in happenings:
        now_s += step_s
        state, write = after(state, noted(f"note {number}", reason), now_s)
        if isinstance(write, Create):
            created.add(write.noted)
        if isinstance(write, Count):
            assert write.first in created
            assert write.count >= 2
        if write is not None:
            writes.append(
                (now_s, reason, type(write), write.first if isinstance(write, Count) else write.noted)
            )
    for at_s, reason, kind, _ in writes:
        if kind is Create:
            lately = [
                one for one in writes if one[1:3] == (reason, Create) and at_s - QUIET_S < one[0] <= at_s
            ]
            assert len(lately) <= TOLD_ONE_BY_ONE
