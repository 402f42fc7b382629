"""gRPC's header values: deadlines in any unit, and messages that survive the way through a trailer."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from service.front.headers import encoding, http_error, timeout_s, trailers_of
from service.statuses import Refusal, Violation, internal, invalid, unavailable


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 4e-3), (b"5u", 5e-6), (b"6n", 6e-9)],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    assert timeout_s(value) == pytest.approx(seconds)


@given(value=st.binary(max_size=12) | st.from_regex(rb"[0-9]{1,9}[HMSmunx]"))
def test_any_other_timeout_is_refused(value: bytes) -> None:
    if re.fullmatch(rb"[0-9]{1,8}[HMSmun]", value):
        assert timeout_s(value) >= 0
    else:
        with pytest.raises(Refusal, match="grpc-timeout"):
            timeout_s(value)


@given(message=st.text(max_size=50))
def test_a_message_survives_the_way(message: str) -> None:
    fields = dict(trailers_of(internal(message)))
    assert fields[b"grpc-status"] == b"13"
    assert unquote(fields[b"grpc-message"].decode("ascii")) == message
    assert all(0x20 <= byte < 0x7F for byte in fields[b"grpc-message"])


def test_details_and_the_moment_to_retry() -> None:
    fields = dict(trailers_of(invalid([Violation("texts[0]", "empty")])))
    assert Status.FromString(base64.b64decode(fields[b"grpc-status-details-bin"])).details
    assert dict(trailers_of(unavailable("draining", "later", 0.25)))[b"grpc-retry-pushback-ms"] == b"250"


def test_what_is_asked_for() -> None:
    request = {b":method": b"POST", b"content-type": b"application/grpc"}
    assert http_error(request) is None
    assert encoding(request) is None
    assert encoding({b"grpc-encoding": b"gzip"}) == "gzip"
    assert http_error({**request, b":method": b"PUT"}) is not None
    assert http_error({b":method": b"POST"}) is not None
