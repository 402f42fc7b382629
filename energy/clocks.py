"""One GPU's clock, set and given back: locked to a clock the card supports, restored in the end.

Owns what may be set on a card and what each refusal means; knows the card only through the Gpu protocol
(energy.nvml keeps it). Which clock is wanted when is the caller's matter. Called by the server.

    no permission          Refused: setting clocks needs root. Never tried again
    not supported          Refused: the same
    MIG                    Refused: the clock is the whole card's, and others compute on it
    lost GPU or driver     GpuGone: opened anew with the next call

NVML has no call that reads a lock back. So that one that was lost (`nvidia-smi -rgc`, another tool, a reset
of the card) does not stay lost, the caller is to lock anew now and then (`renew_s`): to set what is set
changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from energy.gpu import GpuError, Refused
from energy.nvml import NvmlGpu, visible_gpu
from energy.reopened import Reopened

RENEW_S = 5.0
_CLOSE_WAIT_S = 2.0  # for a call under way; a driver that hangs does not keep its user from leaving


class ClocksUnavailable(RuntimeError):  # noqa: N818 - it names a state of the machine, not a slip of the code
    """There is no card to set the clock of: one line with the reason."""


class Gpu(Protocol):
    """One open card. Every method may raise Refused, GpuGone, or GpuError."""

    @property
    def uuid(self) -> str: ...

    def shares_card(self) -> bool:
        """Whether the card is split by MIG."""

    def supported_clocks_mhz(self) -> tuple[int, ...]: ...

    def lock_clocks_mhz(self, lowest_mhz: int, highest_mhz: int) -> None: ...

    def reset_clocks(self) -> None: ...

    def close(self) -> None: ...


class GpuClocks:
    """The clock of one card. Calls block for milliseconds, and may come from any thread.

    The driver keeps a lock beyond the process: one that is killed leaves its card at the clock it set.
    """

    def __init__(self, open_gpu: Callable[[str], Gpu], selector: str) -> None:
        """Opens the card with this index or UUID. Raises ClocksUnavailable where there is none."""
        try:
            gpu = open_gpu(selector)
        except GpuError as error:
            raise ClocksUnavailable(f"gpu-clocks: {error}") from error
        self._card = Reopened(open_gpu, gpu.uuid, gpu)
        self._locked = False
        self._closed = False
        self._turn = threading.Lock()

    @property
    def renew_s(self) -> float | None:
        """The driver keeps a lock, but others may have taken it away."""
        return RENEW_S

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> GpuClocks:
        """Of the card that this process computes on. Raises ClocksUnavailable."""
        selector = visible_gpu(environ)
        if selector is None:
            raise ClocksUnavailable("gpu-clocks: CUDA_VISIBLE_DEVICES hides every GPU")
        return cls(NvmlGpu.open, selector)

    def lock(self, clock_mhz: int) -> int:
        """Holds the card at the supported clock that is nearest, and returns it.

        Raises Refused where that will never be, GpuError where it failed this time.
        """
        with self._turn:
            if self._closed:
                raise GpuError("the card's clock has been given back")
            with self._card.use() as gpu:
                return self._lock(gpu, clock_mhz)

    def restore(self) -> None:
        """Gives the clock back to the driver if it was locked here. Raises GpuError."""
        with self._turn:
            self._restore()

    def close(self) -> None:
        """Restores the clock, and lets go of the card. Never raises."""
        with contextlib.ExitStack() as stack:
            if self._turn.acquire(timeout=_CLOSE_WAIT_S):
                stack.callback(self._turn.release)
            self._closed = True
            with contextlib.suppress(GpuError):
                self._restore()
            self._card.close()

    def _lock(self, gpu: Gpu, clock_mhz: int) -> int:
        if gpu.shares_card():
            raise Refused(f"MIG is on: the clock of {gpu.uuid} is the whole card's, not this replica's")
        try:
            supported = gpu.supported_clocks_mhz()
        except Refused:  # some cards do not list what they can be set to
            supported = ()
        nearest_mhz = min(supported, key=lambda one_mhz: abs(one_mhz - clock_mhz), default=clock_mhz)
        gpu.lock_clocks_mhz(nearest_mhz, nearest_mhz)
        self._locked = True
        return nearest_mhz

    def _restore(self) -> None:
        if self._locked:
            with self._card.use() as gpu:
                gpu.reset_clocks()
            self._locked = False
