"""Raw contents of tensors: little endian, row by row; a BYTES element is its length (uint32), then its bytes.

Pure. Called by `infer_request` and `infer_response`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

_LENGTH = struct.Struct("<I")


def unpacked(raw: bytes, count: int) -> list[bytes]:
    """The `count` elements of a BYTES tensor. Raises ValueError that says how the bytes are none."""
    elements: list[bytes] = []
    at, end = 0, len(raw)
    while at < end:
        if len(elements) == count:
            raise ValueError(
                f"{end - at} bytes follow the last of {count} elements, which the shape asks for"
            )
        if end - at < _LENGTH.size:
            raise ValueError(f"ends within the length of element {len(elements)}")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if end - at < length:
            raise ValueError(f"element {len(elements)} should have {length} bytes, {end - at} are there")
        elements.append(raw[at : at + length])
        at += length
    if len(elements) < count:
        raise ValueError(f"has {len(elements)} elements, the shape asks for {count}")
    return elements


def packed(elements: Iterable[bytes]) -> bytes:
    """A BYTES tensor."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def packed_floats(values: Sequence[float]) -> bytes:
    """An FP32 tensor."""
    return struct.pack(f"<{len(values)}f", *values)
