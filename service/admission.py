"""Who may come in: bounds on requests in flight and texts waiting.

Pure. Asked by `inference` before a request is tokenised; a request that was let in is `dispatch`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.service_time import ServiceTime

MIN_RETRY_S = 0.01


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    max_in_flight: int  # requests accepted and not yet answered
    max_queue_texts: int  # texts waiting for compute


@dataclass(frozen=True, slots=True)
class Load:
    """The replica now."""

    in_flight: int
    waiting_texts: int
    waiting_tokens: int


@dataclass(frozen=True, slots=True)
class Full:
    """Not now: what is full, and when there should be room."""

    message: str
    retry_after_s: float


def admit(texts: int, load: Load, limits: AdmissionLimits, service_time: ServiceTime) -> Full | None:
    """None lets a request of `texts` texts in. The retry time is how long what waits now will compute."""
    retry_after_s = max(MIN_RETRY_S, service_time.batch_s(load.waiting_tokens))
    if load.in_flight >= limits.max_in_flight:
        return Full(
            f"{load.in_flight} requests are in flight, the limit is {limits.max_in_flight}", retry_after_s
        )
    if load.waiting_texts + texts > limits.max_queue_texts:
        return Full(
            f"{load.waiting_texts} texts wait and {texts} more exceed the limit of {limits.max_queue_texts}",
            retry_after_s,
        )
    return None
