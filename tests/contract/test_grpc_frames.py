"""What no gRPC library would send: each mistake gets a status that says so, and harms nobody else."""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ngh2 import NGH2Error

from service.front import http2
from service.front.http2 import MAX_HEADER_BYTES
from tests.contract.front_end import (
    MAX_MESSAGE_BYTES,
    PATIENCE_S,
    Answer,
    FrontEnd,
    RawClient,
    eventually,
    frame,
    path,
)

pytestmark = pytest.mark.both_modes

OK = grpc.StatusCode.OK.value[0]
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
LATE = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]
INTERNAL = grpc.StatusCode.INTERNAL.value[0]
LIMIT = 4 * MAX_MESSAGE_BYTES
GZIP, DEFLATE = ("grpc-encoding", "gzip"), ("grpc-encoding", "deflate")
METHODS = ["Echo", "EchoStream"]


@pytest.fixture(scope="module")
def front_end(front_ends: int) -> Iterator[FrontEnd]:
    with FrontEnd() as front_end:
        yield front_end


@pytest.fixture(autouse=True)
def _unharmed(front_end: FrontEnd) -> Iterator[None]:
    yield
    with grpc.insecure_channel(front_end.target) as channel:
        assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"


def answer(front_end: FrontEnd, method: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    with RawClient(front_end.target) as client:
        return client.answer(client.send(path(method), body, *headers))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (frame(b"x")[:-1], (), INVALID),
        (b"\0\0", (), INVALID),
        (b"\2" + frame(b"x")[1:], (), INVALID),
        (frame(b"x") + b"\0", (), INVALID),
        (frame(b"x", flag=1), (), INVALID),
        (frame(b"x", flag=1), (GZIP,), INVALID),
        (frame(gzip.compress(b"x", mtime=0)[:-1], flag=1), (GZIP,), INVALID),
        (frame(gzip.compress(b"x", mtime=0) + b"x", flag=1), (GZIP,), INVALID),
        (frame(zlib.compress(b"x"), flag=1), (GZIP,), INVALID),
        (frame(zlib.compress(b"x"), flag=1), (DEFLATE,), OK),
        (frame(gzip.compress(b"x", mtime=0), flag=1), (GZIP,), OK),
        (frame(b"x"), (GZIP,), OK),
        (frame(b"x"), (("grpc-encoding", "identity"),), OK),
        (frame(b"x"), (("grpc-encoding", "snappy"),), UNIMPLEMENTED),
        (frame(gzip.compress(bytes(LIMIT)), flag=1), (GZIP,), OK),
        (frame(gzip.compress(bytes(LIMIT + 1)), flag=1), (GZIP,), EXHAUSTED),
        (b"\0\xff\xff\xff\xff", (), EXHAUSTED),
        (frame(b"x"), (("grpc-timeout", "0m"),), LATE),
        (frame(b"x"), (("grpc-timeout", "10"),), INVALID),
        (frame(b"x"), (("grpc-timeout", "-1S"),), INVALID),
        (frame(b"x"), (("grpc-timeout", "123456789S"),), INVALID),
        (frame(b"x"), (("grpc-timeout", "99999999H"),), OK),
        (frame(b"x"), (("content-type", "application/grpc+proto"),), OK),
    ],
)
def test_each_mistake_has_its_status(
    front_end: FrontEnd, method: str, body: bytes, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    got = answer(front_end, method, body, *headers)
    assert (got.headers[":status"], got.status, got.reset) == ("200", status, None)
    assert got.headers["content-type"] == "application/grpc"
    assert got.headers["grpc-accept-encoding"] == "identity,gzip,deflate"


@pytest.mark.parametrize(("body", "why"), [(b"", "missing"), (frame(b"1") + frame(b"2"), "more were sent")])
def test_a_unary_method_takes_just_one_message(front_end: FrontEnd, body: bytes, why: str) -> None:
    got = answer(front_end, "Echo", body)
    assert got.status == INVALID
    assert why in got.headers["grpc-message"].replace("%20", " ")


def test_messages_may_be_cut_anywhere(front_end: FrontEnd) -> None:
    body = frame(b"first") + frame(b"") + frame(b"third")
    with RawClient(front_end.target) as client:
        stream_id = client.send(path("EchoStream"), b"", end=False)
        for byte in body:
            client.more(stream_id, bytes([byte]))
        client.more(stream_id, b"", end=True)
        got = client.answer(stream_id)
    assert (got.body, got.status) == (body, OK)


def test_the_server_keeps_the_deadline_by_itself(front_end: FrontEnd) -> None:
    for method in ("Sleep", "Ignore"):
        got = answer(front_end, method, frame(b"60"), ("grpc-timeout", "50m"))
        assert got.status == LATE


@pytest.mark.parametrize(
    ("headers", "method", "http_status"),
    [
        ((("content-type", "application/json"),), "POST", "415"),
        ((("content-type", "application/grpcfoo"),), "POST", "415"),
        ((), "GET", "405"),
    ],
)
def test_what_is_no_grpc_gets_plain_http(
    front_end: FrontEnd, headers: tuple[tuple[str, str], ...], method: str, http_status: str
) -> None:
    with RawClient(front_end.target) as client:
        got = client.answer(client.send(path("Echo"), frame(b"x"), *headers, method=method))
    assert got.headers[":status"] == http_status


def test_a_client_that_is_refused_early_is_told_to_stop(front_end: FrontEnd) -> None:
    with RawClient(front_end.target) as client:
        got = client.answer(client.send("/no.Such/Method", bytes(100), end=False))
        assert (got.status, got.reset) == (UNIMPLEMENTED, 0)
        got = client.answer(client.send(path("Echo"), b"\0\xff\xff\xff\xff", end=False))
        assert (got.status, got.reset) == (EXHAUSTED, 0)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", bytes(1000)])
def test_what_is_no_http2_is_hung_up_on(front_end: FrontEnd, garbage: bytes) -> None:
    with RawClient(front_end.target) as client:
        client.write(bytes(garbage))
        while not client.hung_up:
            try:
                client.pump()
            except ConnectionResetError:
                break
    with grpc.insecure_channel(front_end.target) as channel:
        assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on", "others are served on"


@pytest.mark.parametrize(
    ("size", "answered"), [(MAX_HEADER_BYTES - 1000, True), (4 * MAX_HEADER_BYTES, False)]
)
def test_headers_have_a_limit(front_end: FrontEnd, size: int, answered: bool) -> None:
    with RawClient(front_end.target) as client:
        fields = [(f"x{number}", "y" * 1000) for number in range(size // 1000)]
        try:
            client.answer(client.send(path("Echo"), frame(b"x"), *fields))
        except ConnectionResetError:
            client.hung_up = True
        assert client.hung_up == (not answered)


@given(body=st.binary(max_size=300), method=st.sampled_from(METHODS), encoded=st.booleans())
def test_no_bytes_are_an_internal_error(front_end: FrontEnd, body: bytes, method: str, encoded: bool) -> None:
    got = answer(front_end, method, body, *([GZIP] if encoded else []))
    assert got.status in (OK, INVALID, EXHAUSTED)


def http2_frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream_id.to_bytes(4) + payload


http2_frames = st.builds(
    http2_frame,
    st.integers(0, 16),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1]),
    st.binary(max_size=20) | st.sampled_from([bytes(4), bytes(8), b"\0\0\0\1", b"\x7f" + b"\xff" * 3]),
)


@given(chunks=st.lists(st.binary(min_size=1, max_size=100) | http2_frames, max_size=8), end=st.booleans())
def test_frames_out_of_place_harm_only_their_connection(
    front_end: FrontEnd, chunks: list[bytes], end: bool
) -> None:
    with RawClient(front_end.target) as client:
        stream_id = client.send(path("EchoStream"), frame(b"x"), end=end)
        try:
            for chunk in chunks:
                client.write(chunk)
            client.hang_up()
            while not client.hung_up:
                client.pump()
        except (OSError, NGH2Error):
            return
        if client.answers[stream_id].closed and "grpc-status" in client.answers[stream_id].headers:
            assert client.answers[stream_id].status != INTERNAL


def test_a_client_that_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "PREFACE_S", 0.1)
    with FrontEnd() as front_end, socket.create_connection(address(front_end), PATIENCE_S) as silent:
        while silent.recv(1000):
            pass  # the server's own preface


def test_a_client_that_opens_only_to_reset_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "RESETS_BURST", 100)
    monkeypatch.setattr(http2, "RESETS_PER_S", 1)
    with FrontEnd() as front_end:
        with RawClient(front_end.target) as client, suppress(ConnectionError):
            for _ in range(150):
                client.reset(client.send(path("Sleep"), frame(b"60")))
            while not client.hung_up:
                client.pump()
        eventually(lambda: front_end.probe.at_once == 0)
        with grpc.insecure_channel(front_end.target) as channel:
            assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"


def address(front_end: FrontEnd) -> tuple[str, int]:
    host, _, port = front_end.target.rpartition(":")
    return host, int(port)
