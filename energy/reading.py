"""What a meter says: a Reading, or Unknown with its reason; and the PowerMeter protocol every meter keeps.

Owns the vocabulary and its errors. Leaves measuring to modelled, rapl, gpu and replayed, and the sharing out
of joules to apportion. Called by whoever reads watts: the server, the profiler, the loop of a whole machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class MeterSpecError(ValueError):
    """A meter spec or a recording that is not understood: one line with field, value and what is allowed."""


class MeterUnavailable(RuntimeError):  # noqa: N818 - it names a state of the machine, not a slip of the code
    """A meter asked for by name that this machine does not have: one line with the reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Joules and watts, both finite and not negative.

    joules_total: never goes back. Where the device counts joules, its own count, so that all who read it
        agree; else since the meter was opened (modelled: since its process started).
    watts: mean over the meter's last window. source: the kind of meter, e.g. `nvml`.
    at_s: on the clock the meter was given.
    """

    joules_total: float
    watts: float
    source: str
    at_s: float

    def __post_init__(self) -> None:
        if not (0 <= self.joules_total < math.inf and 0 <= self.watts < math.inf):
            raise ValueError(
                f"a reading of {self.joules_total} J, {self.watts} W: must be finite, at least 0"
            )


@dataclass(frozen=True, slots=True)
class Unknown:
    """No watts now, and why. There is no number in it: missing is not zero."""

    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What else a device tells beside its joules; None where it cannot say.

    utilization: fraction of time busy, 0 to 1. clock_hz: of the streaming multiprocessors.
    """

    utilization: float | None = None
    clock_hz: float | None = None
    temperature_c: float | None = None
    power_limit_w: float | None = None


NO_TELEMETRY = Telemetry()


class PowerMeter(Protocol):
    """One source of watts. Readings never raise; one caller at a time; a read may block for milliseconds.

    source: `nvml`, `nvml-estimate` (a share of a card's, apportioned), `rapl`, `modelled` or `replayed`.
    device: what the joules are read from, e.g. a GPU's UUID: meters of one host that name the same device
        read the same joules.
    idle_w: watts of the device doing nothing, if known without measuring.
    busy_w_per_core: watts that one busy core adds, if known without measuring.
    opening_j: joules_total when the meter's user began (modelled: 0, its process's start); None if the meter
        could not be read when it was opened.
    """

    @property
    def source(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def idle_w(self) -> float | None: ...

    @property
    def busy_w_per_core(self) -> float | None: ...

    @property
    def opening_j(self) -> float | None: ...

    def read(self) -> Reading | Unknown: ...

    def telemetry(self) -> Telemetry: ...

    def close(self) -> None: ...
