"""Captured traffic is sent as it came: its times, tasks, lengths, classes and deadlines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from loadtest.capture import captured_plan, merged
from loadtest.load import LoadOptions, make_load
from loadtest.plan import Payload
from loadtest.synthetic import WORDS, texts_of
from loadtest.trace import Fit
from minwatt.v1.capture_file import Captured, Header, Row, line
from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import PRIORITY_BATCH, ClassifyRequest, ExtractEntitiesRequest

MODELS = Path(__file__).resolve().parents[2] / "models"
TOKENIZER = Tokenizer.from_file(str(MODELS / "support-text" / "tokenizer.json"))


def row(at_s: float, **more: object) -> Row:
    usual = {
        "task": "classify",
        "tenant": "a",
        "texts": 1,
        "tokens": 12,
        "size_bytes": 40,
        "deadline_s": 0.5,
        "priority": "interactive",
        "outcome": "OK",
        "latency_s": 0.01,
    }
    return Row.model_validate({**usual, **more, "at_s": at_s})


def request_of(item: Payload) -> ClassifyRequest | ExtractEntitiesRequest:
    kind = ClassifyRequest if item.task == "classify" else ExtractEntitiesRequest
    return kind.FromString(item.request)


captured_rows = st.lists(
    st.builds(
        row,
        st.floats(-5, 100).map(lambda value: round(value, 6)),
        task=st.sampled_from(["classify", "extract"]),
        texts=st.integers(1, 3),
        tokens=st.integers(9, 40),
        deadline_s=st.sampled_from([0.1, 2.0]),
        priority=st.sampled_from(["interactive", "batch"]),
    ),
    min_size=1,
    max_size=15,
)


@given(st.lists(captured_rows, min_size=1, max_size=3), st.sampled_from([1.0, 2.0, 60.0]))
def test_every_request_of_every_file_is_sent_once_at_its_time(files: list[list[Row]], speed: float) -> None:
    captures = [
        Captured(Header(started_unix_s=1e9 + 7 * number, share=1, replica="r"), rows, cut=False)
        for number, rows in enumerate(files)
    ]
    plan = captured_plan(merged(captures, "f"), Fit(time_scale=speed), np.random.default_rng(1))
    expected = sorted(
        (7 * number + one.at_s, one.task, one.texts, one.tokens, one.deadline_s, one.priority == "batch")
        for number, rows in enumerate(files)
        for one in rows
    )
    sent = []
    assert plan.deadlines_s is not None
    for at_s, choice, deadline_s in zip(plan.planned_s, plan.choices, plan.deadlines_s, strict=True):
        item = plan.payloads[choice]
        request = request_of(item)
        tokens = sum(len(TOKENIZER.encode(text).ids) for text in request.texts)
        batch = request.options.priority == PRIORITY_BATCH
        sent.append((at_s, str(item.task), len(request.texts), tokens, deadline_s, batch))
    assert Counter(one[1:] for one in sent) == Counter(one[1:] for one in expected)
    times_s = np.array([one[0] for one in expected])
    assert np.allclose(plan.planned_s, (times_s - times_s[0]) / speed, atol=1e-6)


@given(st.integers(1, 5), st.integers(0, 200))
def test_synthetic_texts_have_the_tokens_that_were_counted(count: int, tokens: int) -> None:
    texts = texts_of(count, tokens, np.random.default_rng(tokens))
    found = [len(TOKENIZER.encode(text).ids) for text in texts]
    assert len(found) == count
    assert sum(found) == max(tokens, 3 * count) or tokens < 3 * count
    assert max(found) - min(found) <= 1
    assert all(len(TOKENIZER.encode(word, add_special_tokens=False).ids) == 1 for word in WORDS[:5])


def test_at_another_rate_the_mix_stays_where_it_was() -> None:
    """Half a minute of one task, then half of the other, at ten times the rate."""
    rows = [row(number / 10, task="classify" if number < 300 else "extract") for number in range(600)]
    load = merged([Captured(Header(started_unix_s=0, share=0.1, replica="r"), rows, cut=False)], "f")
    plan = captured_plan(load, Fit(rate_scale=10.0), np.random.default_rng(2))
    assert len(plan) == pytest.approx(6000, rel=0.05)
    tasks = np.array([plan.payloads[choice].task == "classify" for choice in plan.choices])
    assert tasks[plan.planned_s < 29.9].all()
    assert not tasks[plan.planned_s > 30.1].any()


def test_what_nobody_counted_is_as_long_as_others_of_its_size() -> None:
    rows = [
        row(0, tokens=30, size_bytes=120),
        row(1, tokens=None, size_bytes=80, outcome="RESOURCE_EXHAUSTED"),
    ]
    load = merged([Captured(Header(started_unix_s=0, share=1, replica="r"), rows, cut=False)], "f")
    plan = captured_plan(load, Fit(), np.random.default_rng(3))
    (text,) = request_of(plan.payloads[plan.choices[1]]).texts
    assert len(TOKENIZER.encode(text).ids) == 20


def test_kept_texts_are_sent_as_they_are_and_a_share_is_told(tmp_path: Path) -> None:
    header = Header(started_unix_s=0, share=0.25, replica="r")
    lines = [line(header), line(row(0, masked=["hello [PERSON]"])), line(row(1))[:-5]]
    (tmp_path / "a.jsonl.part").write_bytes(b"".join(lines))
    (tmp_path / "b.jsonl.part").write_bytes(b"")
    load = make_load(LoadOptions(capture=tmp_path))
    assert [list(request_of(item).texts) for item in load.plan.payloads] == [["hello [PERSON]"]]
    shared, cut = load.notes
    assert "--rate-scale 4" in shared
    assert "1 files end within a line" in cut
    assert load.with_one_deadline().plan.deadlines_s is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"generate": "poisson"}, "give either --trace FILE, --capture FILE or"),
        ({"task": "classify"}, "--task = classify: does not go with --capture"),
        ({"trough": 0.5}, "--trough = 0.5: does not go with --capture"),
        ({}, "no capture files"),
    ],
)
def test_what_does_not_go_with_a_capture(tmp_path: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_load(LoadOptions.model_validate({"capture": tmp_path, **more}))
