"""What a replica is told to run at. A value; `plan` chooses it, a bus carries it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """`version` grows with each change; a replica keeps the highest it was told."""

    version: int
    max_batch_texts: int
    max_batch_tokens: int  # padded tokens
    max_delay_s: float
    slo_latency_s: float
    variant: str = ""  # empty: as started
