"""What a replica is told to run at. A value; `plan` chooses it, a bus carries it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """`version` grows with each change; a replica keeps the highest it was told.

    Between two ticks a replica may leave the point by itself, within `reflex_sm_clock_mhz`: while the slack
    of its queue is short it batches without delay and asks for that clock (see minwatt.v1.reflex).
    """

    version: int
    max_batch_texts: int
    max_batch_tokens: int  # padded tokens
    max_delay_s: float
    slo_latency_s: float
    variant: str = ""  # empty: as started
    sm_clock_mhz: int = 0  # 0: the card is left alone
    reflex_sm_clock_mhz: int = 0  # the highest clock that the reflex may ask for; 0: none
    reflex_backlog_s: float = 0.0  # of computing: where more waits, slack is short; 0: the reflex' own rule
    shed_low_priority: bool = False  # over the power budget: requests of low priority are refused
