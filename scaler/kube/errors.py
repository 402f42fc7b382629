"""What can go wrong with a call to the API server, as types that callers tell apart. Called by `api`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """`str(error)` is one line. `status` is HTTP's; 0: there was no answer. `retry_after_s`: for how long the
    server asks to be left alone; 0: it does not say."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ConflictError(ApiError):
    """409: the object is of another version than the one that was read, or exists already."""


class GoneError(ApiError):
    """410: too old a version to watch from, or to list on from: list anew."""


class DeniedError(ApiError):
    """401 or 403. The server's own words name verb, resource and namespace."""


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class InvalidError(ApiError):
    """400 or 422: the server can't use what was sent. The same again would be refused again."""


class ThrottledError(ApiError):
    """429: it was not done. Where the server asks for no time, a second."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, 429, retry_after_s)


class UnavailableError(ApiError):
    """5xx, refused, reset, timed out: whether a write was done is not known."""


class DeposedError(ApiError):
    """Not sent: this process may not be the leader any more."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}
_DEFAULT_RETRY_AFTER_S = 1.0
_MOST_RETRY_AFTER_S = 60.0
_LONGEST_MESSAGE = 400


def from_answer(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Of an answer that is not 2xx. The body is a Status object, or what a proxy before the server sent."""
    message = _message(body) or f"HTTP {status}"
    if status == 429:
        return ThrottledError(message, _seconds(retry_after or ""))
    kind = _BY_STATUS.get(status, UnavailableError if status >= 500 else ApiError)
    return kind(message, status, _seconds(retry_after) if retry_after else 0.0)


def from_event(status: Mapping[str, Any]) -> ApiError:
    """Of a watch's ERROR event: its object is a Status."""
    return from_answer(int(status.get("code") or 500), json.dumps(status).encode())


def _seconds(header: str) -> float:
    """A date, or nonsense, counts as a second."""
    try:
        asked_s = float(header)
    except ValueError:
        return _DEFAULT_RETRY_AFTER_S
    return min(_MOST_RETRY_AFTER_S, max(0.0, asked_s)) if math.isfinite(asked_s) else _DEFAULT_RETRY_AFTER_S


def _message(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text).get("message")
    except (ValueError, AttributeError):
        said = text
    return " ".join(str(said or "").split())[:_LONGEST_MESSAGE]
