"""The options of a load: which go together, the errors of those that do not, one load from one seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from loadtest.load import LoadOptions, Shape, TaskMix, make_load
from loadtest.plan import Task
from loadtest.texts import packaged_texts, read_texts
from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import ClassifyRequest, ExtractEntitiesRequest


def options(**given: Any) -> LoadOptions:
    return LoadOptions(**{"generate": Shape.POISSON, "peak_rps": 50.0, "duration_s": 4.0, **given})


@pytest.mark.parametrize("shape", list(Shape))
def test_a_seed_fixes_the_load(shape: Shape) -> None:
    first, again = (make_load(options(generate=shape, seed=3)).plan for _ in range(2))
    other = make_load(options(generate=shape, seed=4)).plan
    assert np.array_equal(first.planned_s, again.planned_s)
    assert np.array_equal(first.choices, again.choices)
    assert not np.array_equal(first.planned_s, other.planned_s)
    assert first.duration_s == 4.0


def test_mixed_load_carries_both_tasks_evenly() -> None:
    plan = make_load(options(duration_s=40.0)).plan
    tasks = [plan.payloads[choice].task for choice in plan.choices]
    assert tasks.count(Task.CLASSIFY) / len(plan) == pytest.approx(0.5, abs=0.05)
    sent = {text for item in plan.payloads for text in _texts(item.task, item.request)}
    assert sent == {*packaged_texts(Task.CLASSIFY), *packaged_texts(Task.EXTRACT)}


def test_own_texts_are_sent(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("where is my card?\n\n 再见 👋\n", encoding="utf-8")
    plan = make_load(options(texts=file, task=TaskMix.EXTRACT)).plan
    assert {item.task for item in plan.payloads} == {Task.EXTRACT}
    assert [_texts(item.task, item.request) for item in plan.payloads] == [
        ["where is my card?"],
        [" 再见 👋"],
    ]


def _texts(task: Task, request: bytes) -> list[str]:
    kind = ClassifyRequest if task is Task.CLASSIFY else ExtractEntitiesRequest
    return list(kind.FromString(request).texts)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generate": None}, "give either --trace FILE, --capture FILE or --generate"),
        ({"trace": Path("a.csv")}, "give either --trace FILE, --capture FILE or --generate"),
        ({"peak_rps": None}, "--generate poisson needs --peak-rps"),
        ({"rate_scale": 2.0}, "give either --rate-scale or --peak-rps"),
        ({"time_scale": 2.0}, "--time-scale = 2.0: does not go with --generate poisson"),
        ({"trough": 0.1}, "--trough = 0.1: does not go with --generate poisson"),
        ({"arrivals_cv": 2.0}, "--arrivals-cv = 2.0: does not go with --generate poisson"),
        (
            {"generate": None, "trace": Path("a.csv"), "flash_crowds": 2},
            "--flash-crowds = 2: does not go with --trace",
        ),
        ({"peak_rps": 1e-9}, "no request falls into the 4 s of the run"),
        ({"texts": Path("/nonexistent/texts.txt")}, "--texts = /nonexistent/texts.txt: can't be read"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_load(options(**given))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "expected_s"), [("90s", 90.0), ("50ms", 0.05), ("1.5m", 90.0), ("2 h", 7200.0)]
)
def test_durations_have_units(text: str, expected_s: float) -> None:
    assert options(duration_s=text).duration_s == pytest.approx(expected_s)


@pytest.mark.parametrize("text", ["", "90", "-5s", "5 d", "1e3s", "s"])
def test_bad_durations_say_what_is_allowed(text: str) -> None:
    with pytest.raises(ValidationError, match="allowed: a duration such as"):
        options(duration_s=text)


def test_a_run_of_no_length_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        options(duration_s="0s")


def test_the_packaged_texts_are_many_and_of_mixed_lengths() -> None:
    for task in Task:
        texts = packaged_texts(task)
        words = [len(text.split()) for text in texts]
        assert len(set(texts)) == len(texts) > 130
        assert min(words) <= 3
        assert max(words) >= 30
        assert any(not text.isascii() for text in texts)


def test_a_file_without_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(UsageError, match="no texts; expected one a line"):
        read_texts(tmp_path / "empty.txt")
