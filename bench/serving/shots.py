"""What is asked of the load generator and what it answers: one measurement as data.

Pure. A shot goes to the load process as JSON, an aim from there back. Called by `load` and by `run`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CONCURRENCIES = (1, 8, 32, 64)
CONNECTIONS = 4  # at most; the calls in flight are spread over them
Protocol = Literal["lean", "stock", "http1"]  # gRPC by `http2` or by `stock`, or HTTP/1.1


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test: where it is, which processes it is, and what is sent."""

    protocol: Protocol
    address: str
    path: str
    bodies: str  # a file of messages, see `body_files`
    pids: tuple[int, ...]
    texts_per_call: int = 1
    stream: bool = False
    marks: str = ""  # the file of `marks`; empty: the server keeps none


@dataclass(frozen=True, slots=True)
class Shot:
    """A closed loop: `concurrency` calls in flight, counted for `seconds` after `warm_s`."""

    target: Target
    concurrency: int
    seconds: float
    warm_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted. CPU seconds are of the counted time alone."""

    seconds: float
    calls: int
    failures: dict[str, int]
    p50_ms: float
    p99_ms: float
    server_cpu_s: float
    client_cpu_s: float
    engine_cpu_s: float
    tokenizer_cpu_s: float
    texts_per_call: int
    latencies_ms: list[tuple[int, float]]  # by number of the message; of one call in flight only

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.seconds

    @property
    def texts_per_s(self) -> float:
        return self.calls_per_s * self.texts_per_call
