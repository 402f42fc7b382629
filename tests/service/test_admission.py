"""Who may come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.admission import AdmissionLimits, Load, admit
from service.service_time import ServiceTime

LIMITS = AdmissionLimits(max_in_flight=2, max_queue_texts=10)
CPU = ServiceTime(0.001, 0.0001)


def test_in_flight_is_bounded() -> None:
    assert admit(1, Load(1, 0, 0), LIMITS, CPU) is None
    full = admit(1, Load(2, 0, 0), LIMITS, CPU)
    assert full is not None
    assert full.message == "2 requests are in flight, the limit is 2"


def test_waiting_texts_are_bounded_and_the_retry_time_is_their_compute() -> None:
    full = admit(3, Load(0, 8, 1000), LIMITS, CPU)
    assert full is not None
    assert full.message == "8 texts wait and 3 more exceed the limit of 10"
    assert full.retry_after_s == CPU.batch_s(1000)


@given(st.integers(1, 20), st.integers(0, 5), st.integers(0, 20))
def test_the_bounds_hold(texts: int, in_flight: int, waiting: int) -> None:
    if admit(texts, Load(in_flight, waiting, waiting * 10), LIMITS, CPU) is None:
        assert in_flight + 1 <= LIMITS.max_in_flight
        assert waiting + texts <= LIMITS.max_queue_texts
