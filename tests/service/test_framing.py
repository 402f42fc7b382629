"""Laws of gRPC's framing: what was framed comes out, however it is cut, and nothing stays held."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.framing import PREFIX_BYTES, Inflow, MessageReader, framed, whole_message
from service.statuses import Refusal

LIMIT = 1000
ENCODED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
messages = st.lists(st.binary(max_size=LIMIT // 4), max_size=6)
encodings = st.sampled_from([None, *ENCODED])


def reader(encoding: str | None = None, room: int = 100 * LIMIT) -> tuple[MessageReader, Inflow]:
    inflow = Inflow(room)
    return MessageReader(LIMIT, encoding, inflow), inflow


@given(sent=messages, encoding=encodings, data=st.data())
def test_what_was_sent_comes_out_however_it_is_cut(
    sent: list[bytes], encoding: str | None, data: st.DataObject
) -> None:
    body = b""
    for message in sent:
        if encoding is not None and data.draw(st.booleans()):
            packed = ENCODED[encoding](message)
            body += b"\1" + framed(packed)[1:]
        else:
            body += framed(message)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    cutter, inflow = reader(encoding)
    got = [
        message for number, chunk in enumerate(chunks) for message in cutter.feed(chunk, number == len(cuts))
    ]
    assert got == sent
    assert inflow.held_bytes == 0


@given(chunks=st.lists(st.binary(max_size=50), max_size=6), encoding=encodings)
def test_any_bytes_are_messages_or_refused_and_nothing_stays_held(
    chunks: list[bytes], encoding: str | None
) -> None:
    cutter, inflow = reader(encoding)
    code = "INVALID_ARGUMENT"
    try:
        for number, chunk in enumerate(chunks):
            assert all(len(message) <= LIMIT for message in cutter.feed(chunk, number == len(chunks) - 1))
    except Refusal as refusal:
        code = refusal.code.name
    assert code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    cutter.close()
    assert inflow.held_bytes == 0


@given(body=st.binary(max_size=20))
def test_the_short_way_agrees_with_the_long_one(body: bytes) -> None:
    whole = whole_message(body, LIMIT)
    if whole is not None:
        assert reader()[0].feed(body, True) == [whole]
        assert framed(whole) == body


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_the_limit_is_allowed(size: int) -> None:
    assert reader()[0].feed(framed(bytes(size)), True) == [bytes(size)]
    assert whole_message(framed(bytes(size)), LIMIT) == bytes(size)


def test_beyond_the_limit_is_refused_at_the_prefix() -> None:
    prefix = framed(bytes(LIMIT + 1))[:PREFIX_BYTES]
    with pytest.raises(Refusal, match=f"has {LIMIT + 1} bytes, the limit is {LIMIT}"):
        reader()[0].feed(prefix, False)
    assert whole_message(framed(bytes(LIMIT + 1)), LIMIT) is None


def test_unfinished_messages_of_all_calls_share_one_bound() -> None:
    inflow = Inflow(1000)
    first, second = (MessageReader(LIMIT, None, inflow) for _ in range(2))
    half = framed(bytes(900))[:600]
    first.feed(half, False)
    with pytest.raises(Refusal) as raised:
        second.feed(half, False)
    assert raised.value.code.name == "RESOURCE_EXHAUSTED"
    second.close()
    first.close()
    assert MessageReader(LIMIT, None, inflow).feed(framed(bytes(900)), True) == [bytes(900)]
