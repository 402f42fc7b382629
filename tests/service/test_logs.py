"""One line an event, readable by machines, without what exceptions say."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import ClassifyRequest
from service import logs
from service.statuses import Refusal
from tests.service.cache.test_known import replica
from tests.service.test_tracing import Metadata

CANARY = "canary-7391"


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as pytest had it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.raiseExceptions = True


def failing(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        raise RuntimeError(f"with {text}") from error


def lines(form: str) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    logs.configure(form, "debug", stream)  # type: ignore[arg-type]
    return stream, logging.getLogger("service.test")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_its_types_and_places_on_one_line(form: str) -> None:
    stream, log = lines(form)
    try:
        failing(CANARY)
    except RuntimeError:
        log.exception("%s failed", "Classify", extra=logs.about(None, {"method": "Classify"}))
    (line,) = stream.getvalue().splitlines()
    assert "Classify failed" in line
    assert "RuntimeError" in line
    assert "ValueError" in line
    assert "test_logs.py" in line
    assert CANARY not in line
    if form == "json":
        event = json.loads(line)
        assert event["error"][0] == "RuntimeError"
        assert event["method"] == "Classify"
        assert (event["level"], event["logger"]) == ("ERROR", "service.test")
        assert datetime.fromisoformat(event["time"]).tzinfo is not None


@given(st.text(), st.text())
def test_any_message_is_one_line_of_json(message: str, value: str) -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, message.replace("%", "%%"), (), None)
    record.fields = {"field": value}
    line = logs.JsonLine().format(record)
    assert "\n" not in line
    event = json.loads(line)
    assert event["field"] == value
    record.fields = {}
    assert len(logs.TextLine().format(record).splitlines()) == 1


@pytest.mark.usefixtures("restored")
async def test_what_nobody_catches_is_logged_without_its_words() -> None:
    stream, _ = lines("json")
    logs.watch(asyncio.get_running_loop())

    async def lost() -> None:
        failing(CANARY)

    task = asyncio.ensure_future(lost())
    await asyncio.wait({task})
    del task
    thread = threading.Thread(target=failing, args=(CANARY,))
    thread.start()
    thread.join()
    try:
        failing(CANARY)
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        del error
    written = stream.getvalue()
    assert CANARY not in written
    events = [json.loads(line) for line in written.splitlines()]
    assert sum("RuntimeError" in event.get("error", []) for event in events) == 3


@pytest.mark.usefixtures("restored")
async def test_what_asyncio_says_again_and_again_is_logged_once() -> None:
    """So it does while there are no more files to open, a thousand times a second."""
    stream, _ = lines("json")
    loop = asyncio.get_running_loop()
    logs.watch(loop)
    said = [
        ("out of files", OSError()),
        ("out of files", OSError()),
        ("out of files", ValueError()),
        ("else", None),
    ]
    for message, error in said:
        loop.call_exception_handler({"message": message, "exception": error})
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "out of files",
        "out of files",
        "else",
    ]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("part", ["engine", "tokenizer"])
async def test_a_failure_that_quotes_the_text_tells_nobody(
    tiny_model: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a library says of what it was given stays between it and us."""
    stream, _ = lines("json")
    async with replica(tiny_model, cache_bytes=1024**2) as parts:

        def fail(*what: object, **more: object) -> None:
            failing(f"can't read {CANARY}: {what}")

        for engine in parts.lifecycle.models.default.engines.all:
            if part == "engine":
                monkeypatch.setattr(engine._encoder, "run", fail)
        if part == "tokenizer":
            monkeypatch.setattr(parts.lifecycle.models.default.tokenizer, "encode", fail)
        call = Metadata({"x-request-id": "id-1"})
        with pytest.raises(Refusal) as raised:
            await parts.inference.answer(
                ClassifyRequest(texts=[f"my {CANARY}"]), parts.inference.arrival("Classify", call)
            )
    assert raised.value.code is grpc.StatusCode.INTERNAL
    assert CANARY not in str(raised.value.status())
    written = stream.getvalue()
    assert "RuntimeError" in written
    assert '"request_id": "id-1"' in written
    assert CANARY not in written


@pytest.mark.parametrize(
    ("sent", "told"),
    [("a1-b2.c3", "a1-b2.c3"), ("two words", None), ("x" * 129, None), ("new\nline", None), ("", None)],
)
def test_a_request_id_is_repeated_when_it_is_one(sent: str, told: str | None) -> None:
    extra = logs.about(Metadata({"x-request-id": sent}), {"status": "OK"})
    assert extra["fields"].get("request_id") == told
