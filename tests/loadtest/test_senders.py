"""A plan that several processes send is the plan: each request once, at its time, with its deadline."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.outcomes import Outcome, Result
from loadtest.plan import Plan, Task, payload
from loadtest.sender import SendResult
from loadtest.senders import joined, split
from loadtest.summary import rate_fraction

ANSWERED = ("classify", 1, Result.COMPLETED, "OK")
PAYLOADS = [payload(Task.CLASSIFY, [str(number)]) for number in range(3)]


@given(st.lists(st.floats(0, 100), max_size=40), st.integers(1, 7), st.booleans())
def test_the_parts_are_the_plan(times_s: list[float], parts: int, own_deadlines: bool) -> None:
    planned_s = np.sort(np.array(times_s))
    choices = np.arange(len(planned_s)) % 3
    deadlines_s = np.arange(len(planned_s), dtype=np.float64) if own_deadlines else None
    split_up = split(Plan(planned_s, choices, PAYLOADS, 100.0, deadlines_s), parts)
    assert max(map(len, split_up)) - min(map(len, split_up)) <= 1
    requests = [
        (at_s, choice, -1.0 if part.deadlines_s is None else part.deadlines_s[index])
        for part in split_up
        for index, (at_s, choice) in enumerate(zip(part.planned_s, part.choices, strict=True))
    ]
    everything = deadlines_s if deadlines_s is not None else -np.ones(len(planned_s))
    assert sorted(requests) == sorted(zip(planned_s, choices, everything, strict=True))

    def sent(part: Plan) -> SendResult:
        outcomes = [Outcome(at_s, at_s, 0.1, *ANSWERED) for at_s in part.planned_s]
        return SendResult(outcomes, 5.0, None)

    together = joined([sent(part) for part in split_up])
    assert [outcome.planned_s for outcome in together.outcomes] == planned_s.tolist()


@given(st.floats(1, 100), st.floats(0.1, 10))
def test_the_rate_that_was_kept_is_the_plans_over_the_senders(duration_s: float, slower: float) -> None:
    planned_s = np.linspace(0, duration_s, 11)
    outcomes = [Outcome(at_s, max(at_s, slower * at_s), 0.1, *ANSWERED) for at_s in planned_s]
    assert np.isclose(rate_fraction(outcomes), min(1.0, 1 / slower))
