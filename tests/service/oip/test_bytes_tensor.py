"""Raw contents: what is packed is unpacked, as Triton's client does it; anything else says why it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from service.oip.bytes_tensor import packed, packed_floats, unpacked

elements = st.lists(st.binary(max_size=40), max_size=20)


@given(elements)
def test_what_is_packed_is_unpacked(values: list[bytes]) -> None:
    assert unpacked(packed(values), len(values)) == values


@given(elements)
def test_triton_s_client_reads_and_writes_the_same_bytes(values: list[bytes]) -> None:
    array = np.array(values, dtype=object)
    assert list(deserialize_bytes_tensor(packed(values))) == values
    if values:  # its own form of an empty tensor is an empty array
        assert serialize_byte_tensor(array).item() == packed(values)


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_floats_are_float32_of_little_endian(values: list[float]) -> None:
    assert np.frombuffer(packed_floats(values), "<f4").tolist() == values


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_are_the_elements_or_say_why_not(raw: bytes, count: int) -> None:
    try:
        values = unpacked(raw, count)
    except ValueError:
        return
    assert len(values) == count
    assert packed(values) == raw


@pytest.mark.parametrize(
    ("raw", "count", "why"),
    [
        (b"\x01\x00\x00\x00a", 2, "has 1 elements, the shape asks for 2"),
        (b"\x01\x00\x00\x00a" * 2, 1, "5 bytes follow the last of 1 elements, which the shape asks for"),
        (b"\x02\x00\x00\x00a", 1, "element 0 should have 2 bytes, 1 are there"),
        (b"\x01\x00\x00\x00a\x01\x00", 2, "ends within the length of element 1"),
        (b"\xff\xff\xff\xff", 1, "element 0 should have 4294967295 bytes, 0 are there"),
    ],
)
def test_what_is_wrong_is_told(raw: bytes, count: int, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        unpacked(raw, count)
