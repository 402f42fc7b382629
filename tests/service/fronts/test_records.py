"""What is written into a record is what is read out of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.decode import EncodedText
from service.fronts import records
from service.fronts.records import METHODS, Answer, OipCounted, RefusedAnswer, RefusedHere, Submission
from service.request import Cost

ids = st.integers(0, 2**63)
seconds = st.floats(0, 1e9)
tokens = st.integers(0, 2**31 - 1)
names = st.text(max_size=20)


@st.composite
def texts(draw: st.DrawFn, with_words: bool) -> EncodedText:
    length = draw(st.integers(1, 12))
    of = st.lists
    read = draw(of(tokens, min_size=length, max_size=length))
    if not with_words:
        return EncodedText(read, [], [], draw(st.booleans()))
    words = draw(of(st.one_of(st.none(), tokens), min_size=length, max_size=length))
    offsets = draw(of(st.tuples(tokens, tokens), min_size=length, max_size=length))
    return EncodedText(read, words, offsets, draw(st.booleans()))


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    with_words = draw(st.booleans())
    found = draw(st.lists(texts(with_words), max_size=5))
    keys = [draw(st.binary(min_size=32, max_size=32)) for _ in found] if draw(st.booleans()) else []
    return Submission(
        draw(ids),
        draw(st.sampled_from(METHODS)),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 255)),
        draw(st.booleans()),
        draw(ids),
        draw(seconds),
        draw(seconds),
        (draw(seconds), draw(seconds)),
        draw(names),
        found,
        with_words,
        keys,
        draw(st.dictionaries(names, names, max_size=3)),
    )


costs = st.builds(
    Cost,
    st.integers(0, 2**31),
    seconds,
    seconds,
    st.integers(0, 2**31),
    st.one_of(st.none(), seconds),
    st.integers(0, 2**31),
    st.one_of(st.none(), seconds),
)
answers = st.builds(
    Answer, ids, costs, st.sampled_from(["nvml", "modelled", "unknown"]), st.lists(st.binary())
)
refusals = st.builds(RefusedAnswer, ids, names, st.binary())


@given(submissions())
def test_a_submission(one: Submission) -> None:
    assert records.to_engine(records.submission(one)) == one


@given(ids)
def test_what_is_withdrawn_and_seen(number: int) -> None:
    assert records.to_engine(records.withdrawn(number)) == records.Withdrawn(number)
    assert records.to_engine(records.seen(number)) == records.Seen(number)


@given(st.sampled_from(METHODS), st.integers(0, 2**32 - 1), names, st.integers(0, 16))
def test_what_was_refused_without_the_engine(method: str, count: int, reason: str, code: int) -> None:
    one = RefusedHere(method, count, reason, code)
    assert records.to_engine(records.refused_here(one)) == one


@given(names, seconds, st.tuples(seconds, seconds, seconds), st.integers(0, 9), costs)
def test_what_is_counted(
    model: str, at_s: float, took_s: tuple[float, float, float], texts: int, cost: Cost
) -> None:
    one = OipCounted(model, at_s, took_s, texts, cost)
    assert records.to_engine(records.oip_counted(one)) == one


@given(st.one_of(answers, refusals))
def test_an_answer(one: Answer | RefusedAnswer) -> None:
    record = records.answer(one) if isinstance(one, Answer) else records.refusal(one)
    assert records.to_front(record) == one


@given(st.binary(min_size=1, max_size=300))
def test_what_is_no_record_is_an_error_and_nothing_else(record: bytes) -> None:
    for read in (records.to_engine, records.to_front):
        try:
            read(record)
        except (ValueError, struct.error, IndexError):
            continue


def test_a_record_cut_short() -> None:
    one = Submission(1, "Classify", 1, 0, False, 10, 0.0, 1.0, (0, 0), "x", [EncodedText([1], [], [])], False)
    with pytest.raises(ValueError, match="expected"):
        records.to_engine(records.submission(one)[:-1])
