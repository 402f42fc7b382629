"""One line an event, as text or as JSON, on stderr; and never a word that a client sent.

Owns the format and what becomes of exceptions that nobody caught. What an exception *says* may quote what it
was given, e.g. a text: of exceptions only type and places are logged. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from service.calls import Call

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # another one is the client's own text: it is left out
_FIELDS = "fields"
MOST_FRAMES = 30
REPEAT_S = 1.0  # out of open files asyncio says so a thousand times a second

log = logging.getLogger(__name__)

Fields = Mapping[str, object]


def about(call: Call | None, fields: Fields) -> dict[str, Fields]:
    """What a line carries beside its message, for logging's `extra`; and the call's request id, if any."""
    request_id = None if call is None else call.metadata(REQUEST_ID_KEY)
    if request_id is not None and _REQUEST_ID.fullmatch(request_id):
        fields = {**fields, "request_id": request_id}
    return {_FIELDS: fields}


def places(error: BaseException) -> list[str]:
    """Types and places of an exception and what caused it, innermost first; not what they say."""
    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(found) < MOST_FRAMES:
        found.append(type(seen).__name__)
        frames = traceback.extract_tb(seen.__traceback__)[-MOST_FRAMES:]
        found += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return found[:MOST_FRAMES]


class _Line(logging.Formatter, ABC):
    """One line, whatever the record holds."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        error = record.exc_info[1] if record.exc_info else None
        return self.line(
            at.replace("+00:00", "Z"),
            record,
            getattr(record, _FIELDS, {}),
            [] if error is None else places(error),
        )

    @abstractmethod
    def line(self, at: str, record: logging.LogRecord, fields: Fields, error: list[str]) -> str:
        """`error`: where an exception came through, never its words."""


class TextLine(_Line):
    """For people."""

    def line(self, at: str, record: logging.LogRecord, fields: Fields, error: list[str]) -> str:
        words = [at, record.levelname, f"{record.name}:", *record.getMessage().split()]
        words += [f"{name}={value}" for name, value in fields.items()]
        return " ".join(words) + (f" | {' < '.join(error)}" if error else "")


class JsonLine(_Line):
    """For collectors."""

    def line(self, at: str, record: logging.LogRecord, fields: Fields, error: list[str]) -> str:
        event: dict[str, Any] = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if error:
            event["error"] = error
        return json.dumps(event, default=str)


def configure(form: Literal["text", "json"], level: str, stream: TextIO | None = None) -> None:
    """All of this process's logging goes here, and every exception that nobody catches."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter({"text": TextLine, "json": JsonLine}[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.raiseExceptions = False  # its report of a line that can't be written would quote the line
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: log.error(
        "a thread has ended", exc_info=args.exc_value, extra=about(None, {})
    )
    sys.unraisablehook = lambda args: log.error("an exception had nowhere to go", exc_info=args.exc_value)


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """What asyncio itself reports; its own words would hold the exceptions'."""

    last: tuple[str, type] | None = None
    last_s = 0.0

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last, last_s
        message, error = context.get("message", "a task failed"), context.get("exception")
        if last == (message, type(error)) and loop.time() < last_s + REPEAT_S:
            return
        last, last_s = (message, type(error)), loop.time()
        log.error("%s", message, exc_info=error)

    loop.set_exception_handler(report)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("ended by an exception", exc_info=(kind, error, trace))
