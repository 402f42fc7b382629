"""API keys: how one is made, how it is stored, and whether one that is shown is one that is stored.

A key is `mw_ID_SECRET`: 64 bits that name it and may be seen, and 256 random bits that may not. Stored is its
SHA-256. A slow or salted hash protects what people choose, which can be guessed; 2^256 secrets can't be tried
or tabulated, and a slow hash would let anybody spend this server's CPU time by showing wrong keys. As nothing
but the ID is looked up and whole digests are compared in constant time, time tells only which IDs exist.
Keys of another form are refused: nobody can store a word as one.

Pure but for the randomness of `new_key`. Called by `access` and by `minwatt key`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

ID_PATTERN = r"^[0-9a-f]{16}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"
_KEY = re.compile(r"mw_([0-9a-f]{16})_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What a server may know of a key."""

    id: str
    sha256: bytes

    def fits(self, key: str) -> bool:
        return hmac.compare_digest(self.sha256, _digest(key))


NO_KEY = StoredKey("", bytes(32))  # fits none: compared with where an ID is unknown, to take the same time


def new_key() -> tuple[str, StoredKey]:
    """The key to hand out, which nobody stores, and what is stored of it."""
    key = f"mw_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
    return key, StoredKey(id_of(key) or "", _digest(key))


def id_of(key: str) -> str | None:
    """None: that is no key."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
