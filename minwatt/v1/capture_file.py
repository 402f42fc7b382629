"""The capture file: requests that a server answered, one JSON line each, after a line about the file.

Written by `minwatt serve --capture`, read by `minwatt replay --capture`; docs/capture.md tells of the form. A
line is whole or it is not there: what a crash cut off is the last line alone, and is left out. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from minwatt.v1.errors import UsageError, one_line

DONE, OPEN = ".jsonl", ".jsonl.part"  # a file that is complete, and one that is still written
UNKNOWN_MODEL = "unknown"  # a name that is no model's may be anything: it is not written
MOST_TEXTS = 100_000  # of a request, to a reader: more than any server lets in

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Header(BaseModel):
    """The file's first line."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    capture: Literal[1] = 1  # the form's version
    started_unix_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # the rows' zero
    share: Annotated[float, Field(gt=0, le=1)]  # of requests that were sampled
    replica: str


class Row(BaseModel):
    """A request as the server saw it. None is unknown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at_s: _Finite  # when it came, from the header's time; below 0 if it came before the file was begun
    task: Literal["classify", "extract"]
    tenant: str  # keyed digest of its name; the key is the file's own and was never written
    texts: Annotated[int, Field(ge=1, le=MOST_TEXTS)]
    tokens: Annotated[int, Field(ge=0)] | None  # of all its texts; None where none was computed
    size_bytes: Annotated[int, Field(ge=0)]  # of the request's message
    deadline_s: _Seconds  # that it had when it came
    priority: Literal["interactive", "batch"]
    outcome: str  # gRPC status by name
    latency_s: _Seconds  # at the server, from the door
    model: str = ""  # as asked for; "": the default one. `UNKNOWN_MODEL`: none that was there
    no_cache: bool = False
    truncate: bool = False  # texts of more tokens than the model takes were to be cut, not refused
    masked: tuple[str, ...] | None = None  # its texts, without personal data; only where they were asked for


@dataclass(frozen=True, slots=True)
class Captured:
    """A file's content; `rows` in the order in which their requests ended."""

    header: Header
    rows: list[Row]
    cut: bool  # the last line was not whole


def line(entry: Header | Row) -> bytes:
    """An entry as it stands in the file."""
    return entry.model_dump_json().encode() + b"\n"


def parse(data: bytes, where: str) -> Captured:
    """A file's bytes, cut anywhere after its first line. Raises UsageError: file, line, field, value."""
    *whole, rest = data.split(b"\n")
    if not whole:
        raise UsageError(f"{where}: no capture: its first line is missing; expected what --capture wrote")
    try:
        header = Header.model_validate_json(whole[0])
    except ValidationError as error:
        raise one_line(error, f"{where}:1") from error
    rows = []
    for number, text in enumerate(whole[1:], start=2):
        try:
            rows.append(Row.model_validate_json(text))
        except ValidationError as error:
            raise one_line(error, f"{where}:{number}") from error
    return Captured(header, rows, cut=bool(rest))
