"""The ranges of a policy's quantities. Called by `policy`; how one is written is `minwatt.v1`'s matter."""

from __future__ import annotations

from typing import Annotated

from minwatt.v1.quantities import in_range, parse_duration_s, parse_fraction, parse_power_w

Latency = Annotated[float, in_range(parse_duration_s, 1e-3, 60.0, "1ms to 60s")]
BatchDelay = Annotated[float, in_range(parse_duration_s, 0.0, 10.0, "0s to 10s")]
Tick = Annotated[float, in_range(parse_duration_s, 0.1, 600.0, "100ms to 10m")]
Window = Annotated[float, in_range(parse_duration_s, 0.0, 86_400.0, "0s to 24h")]
Staleness = Annotated[float, in_range(parse_duration_s, 1.0, 86_400.0, "1s to 24h")]
Budget = Annotated[float, in_range(parse_power_w, 1e-3, 1e9, "1mW to 1000MW")]
ErrorBudget = Annotated[float, in_range(parse_fraction, 0.0, 0.5, "0% to 50%")]
