"""One line an event on stderr, as text or as JSON. Called by `cli`."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal


class TextLine(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_at(record)} {record.levelname} {record.name}: {_message(record)}"
        return line if record.exc_info is None else f"{line} | {self.formatException(record.exc_info)}"


class JsonLine(logging.Formatter):
    """For collectors."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _at(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info is not None:
            event["error"] = self.formatException(record.exc_info)
        return json.dumps(event)


def configure(form: Literal["text", "json"], level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter({"text": TextLine, "json": JsonLine}[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return " ".join(record.getMessage().split())
