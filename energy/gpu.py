"""The meter of one GPU: which of its counters to believe, and what each failure means.

Owns the choice and the arithmetic; knows the card only through the Gpu protocol (energy.nvml keeps it). Time
comes from the clock it is given. Called by opening.

    energy counter         joules as the card counts them; watts from its power field until 5 s are covered
    instantaneous power    else: integrated between readings, trapezoid
    averaged power         else: the same

    lost GPU or driver     Unknown; opened again after 1, 2, 4 … 60 s; joules of the gap are not made up
    counter went back      the driver was loaded anew: goes on from the last total, the window starts anew
    MIG                    Unknown: the card's watts are not those of the slice this replica computes on; who
                           is to share them out asks for them all the same (`whole_card`)
    no permission          the next method; Unknown if there is none
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from energy.reading import NO_TELEMETRY, MeterUnavailable, Reading, Telemetry, Unknown
from energy.window import MeanPower

MJ_PER_J = 1_000
MW_PER_W = 1_000
WINDOW_S = 5.0  # the counter is refreshed each 20 to 100 ms: within 4 % over 5 s
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class GpuError(Exception):
    """A call failed this time. `str(error)` is the reason."""


class Refused(GpuError):  # noqa: N818
    """This card, driver or user will never be told this value: not supported, or no permission."""


class NotPermitted(Refused):
    """This user; another one may be told, or may set it."""


class GpuGone(GpuError):  # noqa: N818
    """The card or the driver is lost; the handle is dead and must be opened anew."""


class Gpu(Protocol):
    """One open card. Every method may raise Refused, GpuGone, or GpuError."""

    @property
    def uuid(self) -> str: ...

    def energy_mj(self) -> int: ...

    def instant_power_mw(self) -> int: ...

    def average_power_mw(self) -> int: ...

    def shares_card(self) -> bool:
        """Whether the card is split by MIG."""

    def telemetry(self) -> Telemetry: ...

    def close(self) -> None: ...


class Method(Enum):
    ENERGY_COUNTER = "energy counter"
    INSTANT_POWER = "instantaneous power"
    AVERAGE_POWER = "averaged power"


class GpuMeter:
    """source `nvml`. joules_total is the card's own count, or what was integrated since the opening.

    What a gap hid stays out of it.
    """

    source = "nvml"
    idle_w: float | None = None
    busy_w_per_core: float | None = None

    def __init__(
        self,
        open_gpu: Callable[[str], Gpu],
        selector: str,
        clock: Callable[[], float],
        *,
        whole_card: bool = False,
    ) -> None:
        """Opens the card with this index or UUID. Raises MeterUnavailable where there is none."""
        self._open_gpu = open_gpu
        self._clock = clock
        self._whole_card = whole_card
        try:
            self._gpu: Gpu | None = open_gpu(selector)
        except GpuError as error:
            raise MeterUnavailable(f"meter = 'nvml': {error}") from error
        self.device = self._gpu.uuid
        self._gone_because = ""
        self._wait_s = FIRST_WAIT_S
        self._retry_at_s = 0.0
        self._method: Method | None = None
        self._total_mj: float | None = None
        self._counter_mj: int | None = None
        self._power: tuple[float, int] | None = None  # (at_s, power_mw) of the last sample
        self._mean = MeanPower(window_s=WINDOW_S, least_s=WINDOW_S)
        self.read()
        self.opening_j = None if self._total_mj is None else self._total_mj / MJ_PER_J

    @property
    def method(self) -> Method | None:
        """How joules are read now; None while nothing can be read."""
        return self._method

    def read(self) -> Reading | Unknown:
        now_s = self._clock()
        try:
            joules, watts = self._measure(self._present(now_s), now_s)
        except GpuGone as error:
            self._lose(str(error), now_s)
            return Unknown(str(error), now_s)
        except GpuError as error:
            return Unknown(str(error), now_s)
        self._wait_s = FIRST_WAIT_S
        return Reading(joules, watts, self.source, now_s)

    def telemetry(self) -> Telemetry:
        try:
            return self._gpu.telemetry() if self._gpu else NO_TELEMETRY
        except GpuError:
            return NO_TELEMETRY

    def close(self) -> None:
        gpu, self._gpu = self._gpu, None
        self._retry_at_s = math.inf
        self._gone_because = "the meter is closed"
        if gpu:
            with contextlib.suppress(GpuError):
                gpu.close()

    def _present(self, now_s: float) -> Gpu:
        if self._gpu is None:
            if now_s < self._retry_at_s:
                raise GpuError(self._gone_because)
            try:
                # By UUID: a card that fell off the bus may have left its index to another.
                self._gpu = self._open_gpu(self.device)
            except GpuError as error:
                raise GpuGone(str(error)) from error
        return self._gpu

    def _lose(self, reason: str, now_s: float) -> None:
        self.close()
        self._method = self._power = None
        self._gone_because = reason
        self._retry_at_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def _measure(self, gpu: Gpu, now_s: float) -> tuple[float, float]:
        """Joules in total and watts."""
        try:
            if self._method is None:
                self._method, (joules, watts) = self._choose(gpu, now_s)
            else:
                joules, watts = self._advance(gpu, self._method, now_s)
        except Refused:
            self._method = None
            raise
        return joules, _power_mw(gpu) / MW_PER_W if watts is None else watts

    def _choose(self, gpu: Gpu, now_s: float) -> tuple[Method, tuple[float, float | None]]:
        """The first method that works, and its first sample."""
        if gpu.shares_card() and not self._whole_card:
            raise Refused(f"MIG is on: the watts of {gpu.uuid} are the whole card's, not this replica's")
        refusals = []
        for method in Method:
            try:
                return method, self._advance(gpu, method, now_s)
            except Refused as error:
                refusals.append(f"{method.value}: {error}")
        raise Refused("; ".join(refusals))

    def _advance(self, gpu: Gpu, method: Method, now_s: float) -> tuple[float, float | None]:
        """Takes the joules since the last sample. Watts are None while the counter's span is short."""
        if method is Method.ENERGY_COUNTER:
            return self._advance_counter(gpu.energy_mj(), now_s)
        power_mw = gpu.instant_power_mw() if method is Method.INSTANT_POWER else gpu.average_power_mw()
        before, self._power = self._power, (now_s, power_mw)
        self._counter_mj = None
        total_mj = self._total_mj or 0.0
        if before is not None:
            total_mj += (before[1] + power_mw) / 2 * (now_s - before[0])
        self._total_mj = total_mj
        return total_mj / MJ_PER_J, power_mw / MW_PER_W

    def _advance_counter(self, counter_mj: int, now_s: float) -> tuple[float, float | None]:
        before_mj, self._counter_mj = self._counter_mj, counter_mj
        self._power = None
        total_mj = counter_mj if self._total_mj is None else self._total_mj
        if before_mj is None or counter_mj < before_mj:
            self._mean.restart(now_s, total_mj / MJ_PER_J)
        else:
            total_mj += counter_mj - before_mj
        self._total_mj = total_mj
        return total_mj / MJ_PER_J, self._mean.add(now_s, total_mj / MJ_PER_J)


def _power_mw(gpu: Gpu) -> int:
    """Power of the moment, while the energy counter has not covered a window yet."""
    try:
        return gpu.instant_power_mw()
    except Refused:
        pass
    try:
        return gpu.average_power_mw()
    except Refused as error:
        # Not Refused: the counter is read, and in a few seconds its watts are known.
        raise GpuError(f"the first {WINDOW_S:g} s of the energy counter are not over") from error
