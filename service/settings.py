"""What one replica is told on its command line: defaults, bounds, and errors that name the flag.

Parsed once, frozen afterwards. Read by `server`; the operating point moves some of it later.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from minwatt.resources import default_model_dir
from minwatt.v1.errors import one_line

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: object) -> float:
    """Seconds of "5ms", "1.5s", "2m"; a bare 0 too. Raises ValueError."""
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        if str(value).strip() == "0":
            return 0.0
        raise ValueError("allowed: a number with a unit, e.g. 5ms, 1.5s, 2m")
    return float(match[1]) * _UNIT_S[match[2]]


def parse_address(value: str) -> tuple[str, int]:
    """HOST:PORT in its parts; an IPv6 host stands in brackets. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("allowed: HOST:PORT, e.g. 127.0.0.1:9000")
    return host, int(port)


def _address(value: str | None) -> str | None:
    if value is not None:
        parse_address(value)
    return value


def _flag(field: str) -> str:
    return field.replace("_", "-")


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]


class ServeSettings(BaseModel):
    """All flags of `minwatt serve`; durations are seconds here."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_flag)

    model: Path = Field(default_factory=default_model_dir)
    variant: str | None = None  # None: the model's default
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    engine_threads: Annotated[int, Field(ge=1, le=256)] = 1

    host: str = "127.0.0.1"
    port: Port = 8500
    reuse_port: bool = False
    metrics_port: Port = 9100
    scaler: Annotated[str | None, BeforeValidator(_address)] = None
    replica_id: str | None = None
    meter: str = "auto"

    slo: Annotated[Seconds, Field(gt=0)] = 0.05
    max_batch_texts: Annotated[int, Field(ge=1, le=4096)] = 16
    max_batch_tokens: Annotated[int, Field(ge=8, le=1_000_000)] = 2048
    max_delay: Seconds = 0.005
    max_in_flight: Count = 512
    max_queue_texts: Count = 1024
    max_texts: Count = 256
    max_message_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 1024 * 1024
    default_deadline: Annotated[Seconds, Field(gt=0)] = 30.0

    max_connection_age: Annotated[Seconds, Field(ge=1)] = 30.0
    drain_delay: Seconds = 0.0
    drain_grace: Seconds = 10.0

    @model_validator(mode="after")
    def _consistent(self) -> ServeSettings:
        if self.max_texts > self.max_queue_texts:
            raise ValueError(
                f"max-texts = {self.max_texts} exceeds max-queue-texts = {self.max_queue_texts}: "
                "such a request could never enter"
            )
        return self

    @classmethod
    def of_flags(cls, **flags: Any) -> ServeSettings:
        """From the command line's values; None means the default. Raises UsageError."""
        given = {_flag(name): value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise one_line(error, "options") from error
