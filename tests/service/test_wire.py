"""Bytes of any kind become a request or a refusal that says why."""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import ClassifyOptions, ClassifyRequest, ClassifyStreamRequest
from service.statuses import MAX_VIOLATIONS, Refusal
from service.wire import Reader, Unreadable

LIMIT = 1000
read = Reader(ClassifyRequest, LIMIT)


def violations(refusal: Refusal) -> dict[str, str]:
    bad = BadRequest()
    assert refusal.status().details[0].Unpack(bad)
    return {violation.field: violation.description for violation in bad.field_violations}


def refused(read: Reader[ClassifyRequest] | Reader[ClassifyStreamRequest], data: bytes) -> Refusal:
    message = read(data)
    assert isinstance(message, Unreadable)
    return message.refusal


def test_a_message_over_the_limit() -> None:
    refusal = refused(read, bytes(LIMIT + 1))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert violations(refusal) == {
        "(message)": f"the message has {LIMIT + 1} bytes, the limit is {LIMIT}; send fewer texts a request"
    }


def test_which_string_is_not_utf8() -> None:
    whole = ClassifyRequest(texts=["fine", "wrong"]).SerializeToString()
    refusal = refused(read, whole.replace(b"wrong", b"wr\xffng"))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(refusal) == {"texts[1]": "not valid UTF-8 at byte 2"}


def test_which_string_in_a_stream_item_is_not_utf8() -> None:
    item = ClassifyStreamRequest(id="7", request=ClassifyRequest(model="wrong", texts=["fine"]))
    data = item.SerializeToString().replace(b"wrong", b"wr\xffng")
    refusal = refused(Reader(ClassifyStreamRequest, LIMIT), data)
    assert violations(refusal) == {"request.model": "not valid UTF-8 at byte 2"}


def test_a_reply_names_no_more_than_a_trailer_holds() -> None:
    refusal = refused(read, b"\x12\x01\xff" * 300)
    assert list(violations(refusal)) == [f"texts[{index}]" for index in range(MAX_VIOLATIONS)]
    assert refusal.message == "texts[0]: not valid UTF-8 at byte 0 (and at least 16 more)"
    assert sum(len(value) for _, value in refusal.trailing_metadata()) < 8192


def test_a_malformed_frame() -> None:
    assert violations(refused(read, b"\x12\xff")) == {
        "(message)": "the bytes are not a minwatt.v1.ClassifyRequest"
    }


@given(st.binary(max_size=LIMIT + 10))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read(data), ClassifyRequest | Unreadable)


@given(st.lists(st.text(), max_size=5), st.integers(0, 100))
def test_what_is_sent_is_read(texts: list[str], top_k: int) -> None:
    request = ClassifyRequest(texts=texts, options=ClassifyOptions(top_k=top_k))
    assert read(request.SerializeToString()) == request
