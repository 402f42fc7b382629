"""HTTP/2 frames that leave: which streams they end. Pure. Called by `http2`."""

from __future__ import annotations

_HEADER_BYTES = 9  # RFC 9113, 4.1: three of length, type, flags, four of stream
_DATA, _HEADERS = 0x0, 0x1
_END_STREAM = 0x1


def ended_streams(frames: bytes) -> set[int]:
    """Those that whole `frames` end in their direction."""
    ended = set()
    at = 0
    while at < len(frames):
        kind, flags = frames[at + 3], frames[at + 4]
        if flags & _END_STREAM and kind in (_DATA, _HEADERS):
            ended.add(int.from_bytes(frames[at + 5 : at + _HEADER_BYTES]))
        at += _HEADER_BYTES + int.from_bytes(frames[at : at + 3])
    return ended
