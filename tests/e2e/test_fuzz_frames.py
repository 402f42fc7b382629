"""A real replica and clients that keep to nothing: any bytes, any HTTP/2 frames, any gRPC message.

Whatever comes, the replica neither ends nor hangs, answers the next honest client, and blames itself for
nothing (INTERNAL, UNKNOWN) that a message was at fault for.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

SERVICE = "/minwatt.v1.TextInference/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HONEST_TIMEOUT_S = 30
QUIET_S = 0.02  # a dishonest connection that hears nothing more is closed
OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
GOOD = pb.ClassifyRequest(texts=["hello"]).SerializeToString()
EXAMPLES = settings(max_examples=60)


@pytest.fixture(scope="module")
def replica(tiny_model: Path, front_ends: int) -> Iterator[ReplicaProcess]:
    with ReplicaProcess(tiny_model, "--max-message-bytes", "4096", "--meter", "modelled") as replica:
        yield replica
        assert replica.process.poll() is None
        replica.terminate()
        assert replica.wait() == 0
        assert "Traceback" not in replica.stderr
        assert "service.inference" not in replica.stderr  # where a failure of ours would be logged


@pytest.fixture(scope="module")
def channel(replica: ReplicaProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(replica.target) as channel:
        yield channel


def honest(channel: grpc.Channel) -> None:
    reply = TextInferenceStub(channel).Classify(pb.ClassifyRequest(texts=["hello"]), timeout=HONEST_TIMEOUT_S)
    assert len(reply.results) == 1


def send(target: str, data: bytes, finish: bool) -> None:
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection, contextlib.suppress(OSError):
        connection.settimeout(QUIET_S)
        connection.sendall(data)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


def frame(kind: int, flags: int, stream: int, payload: bytes, lie: int = 0) -> bytes:
    length = max(0, min(len(payload) + lie, 2**24 - 1))
    return length.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """HPACK: a literal that is not indexed, without Huffman."""
    encoded_name, encoded_value = name.encode(), value.encode()[:126]
    return bytes([0, len(encoded_name)]) + encoded_name + bytes([len(encoded_value)]) + encoded_value


def grpc_headers(method: str, timeout: str, encoding: str) -> bytes:
    return b"".join(
        header(*pair)
        for pair in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SERVICE + method),
            (":authority", "x"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", timeout),
            ("grpc-encoding", encoding),
        )
    )


HEADER_BLOCKS = st.one_of(
    st.builds(
        grpc_headers,
        st.sampled_from(["Classify", "ExtractEntities", "ClassifyStream", "Nothing", ""]),
        st.sampled_from(["1S", "1m", "0n", "99999999H", "-1S", "S", "1", ""]),
        st.sampled_from(["identity", "gzip", "nonsense", ""]),
    ),
    st.binary(max_size=60),
)
MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda compressed, lie, body: struct.pack(">BI", compressed, max(0, len(body) + lie)) + body,
        st.sampled_from([0, 0, 1, 255]),
        st.sampled_from([0, 0, 0, 1, -1, 2**31]),
        st.one_of(st.just(GOOD), st.binary(max_size=50)),
    ),
)
STREAMS = st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1])
FRAMES = st.one_of(
    st.builds(frame, st.just(HEADERS), st.sampled_from([4, 5, 0, 255]), STREAMS, HEADER_BLOCKS),
    st.builds(frame, st.just(DATA), st.sampled_from([0, 1, 8]), STREAMS, MESSAGES),
    st.builds(frame, st.just(SETTINGS), st.sampled_from([0, 1]), STREAMS, st.binary(max_size=36)),
    st.builds(
        frame,
        st.sampled_from([RST_STREAM, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION]),
        st.integers(0, 255),
        STREAMS,
        st.binary(max_size=20),
    ),
    st.builds(
        frame,
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=50),
        st.sampled_from([0, 1, -1, 2**24]),
    ),
)


@EXAMPLES
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_any_bytes(
    replica: ReplicaProcess, channel: grpc.Channel, data: bytes, preface: bool, finish: bool
) -> None:
    send(replica.target, (PREFACE if preface else b"") + data, finish)
    honest(channel)


@EXAMPLES
@given(st.lists(FRAMES, max_size=8), st.booleans())
def test_any_frames(
    replica: ReplicaProcess, channel: grpc.Channel, frames: list[bytes], finish: bool
) -> None:
    """Often with a call opened first, so that they mean something."""
    begin = PREFACE + frame(SETTINGS, 0, 0, b"")
    if finish:
        begin += frame(HEADERS, 4, 1, grpc_headers("Classify", "1S", "identity"))
    send(replica.target, begin + b"".join(frames), finish)
    honest(channel)


@EXAMPLES
@given(st.sampled_from(["Classify", "ExtractEntities"]), st.binary(max_size=300))
def test_any_message(channel: grpc.Channel, method: str, data: bytes) -> None:
    call = channel.unary_unary(SERVICE + method).future(data, timeout=HONEST_TIMEOUT_S)
    assert call.code() not in OUR_FAULT, call.details()
    assert call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


@EXAMPLES
@given(
    st.sampled_from(["ClassifyStream", "ExtractEntitiesStream"]),
    st.lists(
        st.one_of(
            st.binary(max_size=100),
            st.builds(
                lambda id_, text, timeout_s: pb.ClassifyStreamRequest(
                    id=id_, request=pb.ClassifyRequest(texts=[text]), timeout_seconds=timeout_s
                ).SerializeToString(),
                st.sampled_from(["", "1", "2"]),
                st.text(max_size=20),
                st.one_of(st.floats(), st.just(0.0)),
            ),
        ),
        max_size=8,
    ),
)
def test_any_messages_on_a_stream(channel: grpc.Channel, method: str, items: list[bytes]) -> None:
    """Each gets a reply of its own and none ends the stream."""
    stream = channel.stream_stream(SERVICE + method)(iter(items), timeout=HONEST_TIMEOUT_S)
    replies = [pb.ClassifyStreamResponse.FromString(reply) for reply in stream]
    assert stream.code() is grpc.StatusCode.OK
    assert len(replies) == len(items)
    faults = {code.value[0] for code in OUR_FAULT}
    assert not [reply.error for reply in replies if reply.error.code in faults]
