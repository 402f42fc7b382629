"""Any message is answered or refused with a reason: never INTERNAL, never a hang, and the replica goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import ClassifyOptions, ClassifyRequest
from tests.fuzz.replica import REQUESTS, FuzzedReplica

ROOT = Path(__file__).resolve().parents[2]
METHODS = st.sampled_from(sorted(REQUESTS))
UINT32 = st.one_of(st.integers(0, 10), st.integers(0, 2**32 - 1))
ENUM = st.one_of(st.integers(-1, 5), st.integers(-(2**31), 2**31 - 1))
# All of Unicode, and what tokenizers and decoders stumble over: marks, joiners, direction, blanks, nulls.
ODD_CHARACTERS = "a \t\n\0\u200b\u200d\u202e\u0301\ufeff\ufffd東👩🏽🚀İßﬃ\U0010ffff"
ODD = st.text(st.sampled_from(ODD_CHARACTERS), max_size=200)
TEXT = st.one_of(st.text(max_size=60), ODD, ODD.map(lambda text: text * 50))
FLOAT = st.one_of(st.floats(0, 1, width=32), st.floats(width=32))


@pytest.fixture(scope="module")
def replica(tiny_model: Path) -> Iterator[FuzzedReplica]:
    replica = FuzzedReplica(tiny_model, cache_bytes=1024**2)
    yield replica
    replica.close()


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


@st.composite
def fields(draw: st.DrawFn, depth: int = 3) -> bytes:
    """Protobuf's wire format, of any numbers and types; lengths sometimes lie."""
    frame = b""
    for _ in range(draw(st.integers(0, 5))):
        number = draw(st.one_of(st.integers(1, 9), st.integers(0, 2**29)))
        kind = draw(st.integers(0, 7))
        frame += varint(number << 3 | kind)
        if kind == 0:
            frame += varint(draw(st.integers(0, 2**70)))
        elif kind == 1:
            frame += draw(st.binary(min_size=8, max_size=8))
        elif kind == 5:
            frame += draw(st.binary(min_size=4, max_size=4))
        elif kind == 2:
            body = draw(st.one_of(st.binary(max_size=40), TEXT.map(str.encode)))
            if depth and draw(st.booleans()):
                body = draw(fields(depth - 1))
            lie = draw(st.sampled_from([0, 0, 0, 0, 1, -1, 2**31, 2**63]))
            frame += varint(max(0, len(body) + lie)) + body
    return frame


@given(METHODS, st.one_of(st.binary(max_size=300), fields()))
def test_any_bytes(replica: FuzzedReplica, method: str, data: bytes) -> None:
    replica.take(method, data)


@given(
    st.lists(TEXT, max_size=6),
    st.one_of(st.just(""), st.just("tiny-text"), TEXT),
    UINT32,
    FLOAT,
    ENUM,
    ENUM,
    st.booleans(),
)
def test_any_request(
    replica: FuzzedReplica,
    texts: list[str],
    model: str,
    top_k: int,
    min_score: float,
    long_text: int,
    priority: int,
    no_cache: bool,
) -> None:
    options = ClassifyOptions(
        top_k=top_k,
        min_score=min_score,
        long_text=long_text,  # type: ignore[arg-type]
        priority=priority,  # type: ignore[arg-type]
        no_cache=no_cache,
    )
    request = ClassifyRequest(model=model, texts=texts, options=options).SerializeToString()
    replica.take("Classify", request)
    replica.take("ExtractEntities", request)  # its options have other numbers


@given(st.lists(TEXT, max_size=4), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=8))
def test_a_request_with_changed_bytes(
    replica: FuzzedReplica, texts: list[str], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(ClassifyRequest(texts=["hello", *texts]).SerializeToString())
    for position, byte in changes:
        data[position % len(data)] = byte
    for method in REQUESTS:
        replica.take(method, bytes(data))
    assert (
        replica.take("Classify", ClassifyRequest(texts=["hello"]).SerializeToString()) is grpc.StatusCode.OK
    )


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not here: `make fuzz` brings it")
def test_the_coverage_guided_fuzzer_runs(tiny_model: Path) -> None:
    """A short run: that it works, and that it finds nothing at once. `make fuzz` runs it for long."""
    command = [sys.executable, "-m", "tests.fuzz", str(tiny_model), "-runs=3000", "-seed=7", "-verbosity=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 3000" in done.stderr
