"""What a Locust user does: a schedule that no answer moves, times that count from it, counted errors."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load import TaskMix
from loadtest.locust_user import Pace, UserOptions, ask, asked
from loadtest.plan import Task, payload
from minwatt.v1.errors import UsageError

ITEM = payload(Task.EXTRACT, ["hello"])


@given(st.integers(0, 99), st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_no_answer_moves_the_schedule(seed: int, latencies_s: list[float]) -> None:
    slow, quick = (Pace(2.0, 10.0, random.Random(seed)) for _ in range(2))
    now_s, planned = 10.0, []
    for latency_s in latencies_s:
        now_s += slow.wait_s(now_s)
        assert now_s >= slow.planned_s - 1e-9
        planned.append(slow.take())
        now_s += latency_s
    assert planned == [quick.take() for _ in latencies_s]
    assert planned == sorted(planned)


def test_users_together_are_a_poisson_process() -> None:
    users = [Pace(5.0, 0.0, random.Random(number)) for number in range(40)]
    times_s = sorted(user.take() for user in users for _ in range(200))
    gaps_s = np.diff([time_s for time_s in times_s if time_s < 30])
    assert np.mean(gaps_s) == pytest.approx(1 / 200, rel=0.05)
    assert np.std(gaps_s) / np.mean(gaps_s) == pytest.approx(1.0, rel=0.1)


def test_a_response_time_counts_from_the_planned_time_and_an_error_is_told() -> None:
    said: list[object] = []

    def call(request: bytes, timeout: float) -> bytes:
        said.append((request, timeout))
        return b"reply"

    told = ask(ITEM, 0.5, 9.0, call, lambda: 9.25)
    assert (told["name"], told["response_time"], told["response_length"]) == ("ExtractEntities", 250.0, 5)
    assert (said, told["exception"]) == ([(ITEM.request, 0.5)], None)

    def fail(request: bytes, timeout: float) -> bytes:
        raise ConnectionError("gone")

    assert str(ask(ITEM, 0.5, 9.0, fail, lambda: 9.25)["exception"]) == "gone"


def test_tasks_are_asked_evenly_unless_one_is_chosen() -> None:
    counts = Counter(item.task for item, _ in asked(UserOptions()).requests)
    assert counts[Task.CLASSIFY] == counts[Task.EXTRACT]
    only = asked(UserOptions(task=TaskMix.CLASSIFY, deadline_s=0.2)).requests
    assert {(item.task, deadline_s) for item, deadline_s in only} == {(Task.CLASSIFY, 0.2)}


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"MINWATT_USER_RPS": "0"}, "MINWATT_USER_RPS = '0': allowed: a number above 0"),
        ({"MINWATT_TASK": "sum"}, "MINWATT_TASK = 'sum': allowed: classify, extract, mixed"),
        ({"MINWATT_DEADLINE": "soon"}, "MINWATT_DEADLINE = 'soon': allowed: a duration"),
        ({"MINWATT_TLS": "perhaps"}, "MINWATT_TLS = 'perhaps': "),
        (
            {"MINWATT_TLS_CERT": "client.pem"},
            "MINWATT_TLS_KEY: missing; a certificate and its key go together",
        ),
        ({"MINWATT_TLS_CA": "none.pem"}, "MINWATT_TLS_CA = 'none.pem': "),
        ({"MINWATT_API_KEY_FILE": "none"}, "MINWATT_API_KEY_FILE = 'none': can't be read"),
    ],
)
def test_what_is_wrong_in_the_environment_is_one_line(environ: dict[str, str], line: str) -> None:
    with pytest.raises(UsageError) as raised:
        UserOptions.of(environ).identity("127.0.0.1:1")
    assert str(raised.value).startswith(line)
