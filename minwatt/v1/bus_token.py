"""The secret by which a replica may join a scaler's own port: files of tokens, and how one is shown.

Owns the file's form, one token a line, and what stands in a call's metadata. Both ends read their file at
each joining, so that a renewed Secret counts without a restart. A replica shows the first line; the scaler
takes any of its lines, the old one and the new, while they are exchanged. No error repeats a token.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from pathlib import Path

from minwatt.v1.errors import UsageError

METADATA_KEY = "authorization"
_SCHEME = "Bearer "
_TOKEN = re.compile(r"[!-~]{16,1024}", re.ASCII)


def read_tokens(file: Path, option: str) -> Sequence[str]:
    """One or more. Raises UsageError that names `option` and the file."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"{option} = {str(file)!r}: {why}") from error
    tokens = [line.strip() for line in lines if line.strip()]
    for number, token in enumerate(tokens, 1):
        if _TOKEN.fullmatch(token) is None:
            raise UsageError(
                f"{option} = {str(file)!r}: token {number}: allowed: 16 to 1024 ASCII characters, no blanks"
            )
    if not tokens:
        raise UsageError(f"{option} = {str(file)!r}: holds no token")
    return tokens


def shown(token: str) -> str:
    """As the metadata's value."""
    return f"{_SCHEME}{token}"


def admits(tokens: Sequence[str], value: str) -> bool:
    """Whether the metadata's value shows one of them; its time tells nothing of how much is right."""
    matches = [hmac.compare_digest(shown(token).encode(), value.encode()) for token in tokens]
    return any(matches)
