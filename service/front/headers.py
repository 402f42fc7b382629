"""What gRPC says in HTTP/2 headers and trailers: deadline, encoding, status and its details.

Pure; the format is grpc/doc/PROTOCOL-HTTP2.md. Used by `front.exchange`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import quote

from service.front.framing import ACCEPTED, ENCODINGS
from service.statuses import Refusal, Violation, invalid, unimplemented

Header = tuple[bytes, bytes]

BEGINNING: tuple[Header, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ",".join(ACCEPTED).encode()),
)
OK: tuple[Header, ...] = ((b"grpc-status", b"0"),)

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def timeout_s(value: bytes) -> float:
    """Of grpc-timeout. Raises Refusal."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise invalid([Violation("grpc-timeout", "allowed: up to 8 digits and one of H, M, S, m, u, n")])
    return int(match[1]) * _UNIT_S[match[2]]


def encoding(fields: Mapping[bytes, bytes]) -> str | None:
    """Of grpc-encoding; None: identity. Raises Refusal."""
    name = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
    if name == "identity":
        return None
    if name not in ENCODINGS:
        raise unimplemented(f"grpc-encoding is not one of: {', '.join(ACCEPTED)}")
    return name


def http_error(fields: Mapping[bytes, bytes]) -> tuple[Header, ...] | None:
    """The plain HTTP answer to what is no gRPC request; None for one that is."""
    if fields.get(b":method") != b"POST":
        return ((b":status", b"405"), (b"allow", b"POST"))
    kind = fields.get(b"content-type", b"")
    if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
        return ((b":status", b"415"),)
    return None


def trailers_of(refusal: Refusal) -> list[Header]:
    """Status, message and details."""
    number: int = refusal.code.value[0]
    fields = [
        (b"grpc-status", str(number).encode()),
        (b"grpc-message", quote(refusal.message, _PLAIN).encode()),
    ]
    for key, value in refusal.trailing_metadata():
        text = base64.b64encode(value) if isinstance(value, bytes) else value.encode("ascii")
        fields.append((key.encode("ascii"), text))
    return fields
