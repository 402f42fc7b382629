"""What one replica is told on its command line: defaults, bounds, and errors that name the flag.

Parsed once, frozen afterwards. Read by `server`; the operating point moves some of it later.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from minwatt.resources import default_model_dir, model_dir
from minwatt.v1.errors import UsageError, one_line
from minwatt.v1.fleet_keys import DEFAULT_FLEET, checked_fleet
from minwatt.v1.quantities import in_range, parse_bytes, parse_duration_s
from minwatt.v1.redis_address import parse_redis_url
from service.queue import MOST_PADDED_TOKENS, MOST_TEXTS
from service.runtime.options import MOST_PREPARED_TEXTS

_ADDRESS = re.compile(r"(?:\[[^\s\[\]]+\]|[^\s\[\]:]+):([0-9]{1,5})")  # an IPv6 host stands in brackets
DAY_S = 86_400.0
LEAST_CACHE_BYTES = 1024**2
_ONLY_WITH_CAPTURE = {"capture_share", "capture_texts", "capture_bytes", "capture_keep_s"}


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError("allowed: HOST:PORT, e.g. 127.0.0.1:9000")
    return value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else tuple(value)


def _whole_bytes(value: object) -> float:
    return round(parse_bytes(value))


def cache_dir() -> Path:
    """Where what can be built anew is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minwatt"


def _url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s/]+/?", value) is None:
        raise ValueError("allowed: http://HOST:PORT or https://HOST:PORT")
    return value


def _flag(field: str) -> str:
    """The command's spelling of a field, so that errors name what was typed."""
    return field.removesuffix("_s").replace("_", "-")


Latency = Annotated[float, in_range(parse_duration_s, 1e-3, 3600.0, "1ms to 1h")]
Delay = Annotated[float, in_range(parse_duration_s, 0.0, 10.0, "0s to 10s")]
Deadline = Annotated[float, in_range(parse_duration_s, 1e-3, DAY_S, "1ms to 24h")]
Age = Annotated[float, in_range(parse_duration_s, 1.0, DAY_S, "1s to 24h")]
Wait = Annotated[float, in_range(parse_duration_s, 0.0, DAY_S, "0s to 24h")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]
Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_url)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Fleet = Annotated[str, AfterValidator(checked_fleet)]
ModelDir = Annotated[Path, AfterValidator(model_dir)]
Models = Annotated[tuple[ModelDir, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Room = Annotated[int, in_range(_whole_bytes, 2**24, 2**50, "16Mi to 1048576Gi")]
Keep = Annotated[float, in_range(parse_duration_s, 60.0, 366 * DAY_S, "1m to 8784h")]
Memory = Annotated[int, in_range(_whole_bytes, 2**20, 2**50, "1Mi to 1048576Gi")]


class ServeSettings(BaseModel):
    """All flags of `minwatt serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_flag)

    model: Models = Field(default_factory=lambda: (default_model_dir(),))  # the first is the default
    variant: str | None = None  # of each; None: the model's default
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    engine_threads: Annotated[int, Field(ge=1, le=256)] = 1
    engine_workers: Annotated[int, Field(ge=1, le=256)] | None = None  # None: `assembly` decides

    gpu: Annotated[int, Field(ge=0, le=255)] = 0
    gpu_memory: Annotated[int, Field(ge=1 << 20)] | None = None  # bytes
    cuda_graphs: bool = False
    tensorrt_precision: Literal["fp32", "fp16", "int8"] = "fp32"
    engine_cache: Path = Field(default_factory=lambda: cache_dir() / "engines")

    host: str = "127.0.0.1"
    port: Port = 8500
    reuse_port: bool = False
    front_ends: Annotated[int, Field(ge=0, le=64)] = 0  # processes; 0: the engine's own
    metrics_port: Port = 9100
    scaler: Address | None = None
    scaler_token_file: Path | None = None
    scaler_ca: Path | None = None  # None: plaintext
    bus_redis: str | None = None
    bus_redis_password_file: Path | None = None
    fleet: Fleet = DEFAULT_FLEET
    replica_id: Name | None = None
    tenants: Path | None = None  # None: everybody is one tenant without a quota
    meter: str = "auto"
    gpu_clocks: bool = False
    node_agent: Path | None = None  # its socket; None: this process sets the card itself
    node: Name | None = None  # None: the host's name

    slo_s: Latency = 0.05
    max_batch_texts: Annotated[int, Field(ge=1, le=MOST_TEXTS)] = 16
    max_batch_tokens: Annotated[int, Field(ge=8, le=MOST_PADDED_TOKENS)] = 1024
    max_delay_s: Delay = 0.0
    max_in_flight: Count = 512
    max_queue_texts: Count = 1024
    max_texts: Count = 256
    max_message_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 1024 * 1024
    default_deadline_s: Deadline = 30.0

    memory_limit: Memory | None = None  # bytes; None: the container's and the machine's alone
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    max_connection_streams: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1024

    cache_bytes: Annotated[int, Field(ge=0, le=1024**4)] = 0  # 0: no cache
    cache_ttl_s: Age = 3600.0
    cache_redis: str | None = None
    cache_redis_password_file: Path | None = None
    cache_key_file: Path | None = None

    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: Url | None = None
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0

    capture: Path | None = None  # a folder; None: nothing is captured
    capture_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    capture_texts: bool = False
    capture_bytes: Room = 1024**3  # of all files in the folder
    capture_keep_s: Keep = DAY_S

    max_connection_age_s: Age = 30.0
    drain_delay_s: Wait = 0.0
    drain_grace_s: Wait = 10.0

    @model_validator(mode="after")
    def _consistent(self) -> ServeSettings:
        if self.max_texts > self.max_queue_texts:
            raise ValueError(
                f"max-texts = {self.max_texts} exceeds max-queue-texts = {self.max_queue_texts}: "
                "such a request could never enter"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "tls-cert" if self.tls_cert is None else "tls-key"
            raise ValueError(f"{missing}: missing; a certificate and its key go together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls-client-ca: needs tls-cert and tls-key")
        if self.provider == "tensorrt" and self.max_batch_texts > MOST_PREPARED_TEXTS:
            raise ValueError(
                f"max-batch-texts = {self.max_batch_texts}: TensorRT's engine takes {MOST_PREPARED_TEXTS}"
            )
        if self.scaler is not None and self.bus_redis is not None:
            raise ValueError("scaler and bus-redis: the scaler is met in one place: give one of them")
        if self.scaler is None and (self.scaler_token_file or self.scaler_ca):
            raise ValueError("scaler-token-file, scaler-ca: need scaler")
        if self.bus_redis is not None:
            try:
                parse_redis_url(self.bus_redis, "bus-redis", self.bus_redis_password_file)
            except UsageError as error:  # its line repeats no password
                raise ValueError(str(error)) from None
        elif self.bus_redis_password_file is not None:
            raise ValueError("bus-redis-password-file: needs bus-redis")
        if 0 < self.cache_bytes < LEAST_CACHE_BYTES:
            raise ValueError(
                f"cache-bytes = {self.cache_bytes}: allowed: 0 (off) or {LEAST_CACHE_BYTES} and more"
            )
        if self.meter == "agent" and self.node_agent is None:
            raise ValueError("meter = 'agent': needs node-agent, its socket")
        if self.node_agent is not None and self.meter != "agent" and not self.gpu_clocks:
            raise ValueError("node-agent: of no use without gpu-clocks or meter = 'agent'")
        if self.cache_redis is None and self.cache_redis_password_file is not None:
            raise ValueError("cache-redis-password-file: needs cache-redis")
        if self.cache_redis is not None and self.cache_bytes:
            raise ValueError("cache-bytes and cache-redis: answers are kept in one place: give one of them")
        if (self.cache_redis is None) != (self.cache_key_file is None):
            raise ValueError(
                "cache-redis and cache-key-file go together: the file, the same for all replicas, keeps "
                "others from guessing what was asked; e.g. of: head -c 64 /dev/urandom"
            )
        needing = {name for name in _ONLY_WITH_CAPTURE & self.model_fields_set if getattr(self, name)}
        if self.capture is None and needing:
            raise ValueError(f"{', '.join(map(_flag, sorted(needing)))}: needs capture, the folder")
        if self.capture_texts and self.front_ends:
            raise ValueError(
                "capture-texts: goes without front-ends: there a text never leaves the process it came to"
            )
        return self

    @property
    def in_fleet(self) -> bool:
        return self.scaler is not None or self.bus_redis is not None

    @classmethod
    def of_flags(cls, **flags: Any) -> ServeSettings:
        """From the command line's values; None means the default. Raises UsageError."""
        given = {_flag(name): value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise one_line(error, "options") from error
