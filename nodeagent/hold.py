"""One card's settings: written down, then set, then restored; whatever fails in between.

Owns what is believed to be in force and the order of journal and card. Knows the card only through the Gpu
protocol (energy.nvml keeps it) and not who wants what. Called by `keeper`, on one thread.

    before a kind of setting is touched   the journal says so, and the power limit that was found
    after it was restored                 the journal says no more
    a call failed                         what is in force is unknown: all is set anew the next time
    lost GPU or driver                    the same, on a card opened anew
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from energy.gpu import GpuError, GpuGone, Refused
from nodeagent.bounds import CardRange
from nodeagent.journal import UNTOUCHED, Journal, Touched
from nodeagent.leases import DEFAULT, Setting

_Value = TypeVar("_Value")


class Slice(Protocol):
    """An instance that MIG splits a card into."""

    @property
    def uuid(self) -> str: ...


class Gpu(Protocol):
    """One open card. Every method may raise Refused, GpuGone, or GpuError."""

    @property
    def name(self) -> str: ...

    def supported_clocks_mhz(self) -> tuple[int, ...]: ...

    def lock_clocks_mhz(self, lowest_mhz: int, highest_mhz: int) -> None: ...

    def reset_clocks(self) -> None: ...

    def power_limit_range_w(self) -> tuple[float, float]: ...

    def power_limit_w(self) -> float: ...

    def set_power_limit_w(self, limit_w: float) -> None: ...

    def compute_pids(self) -> frozenset[int]: ...

    def instances(self) -> Sequence[Slice]: ...

    def close(self) -> None: ...


class Hold:
    """One card by UUID. Opened when it is needed."""

    def __init__(self, uuid: str, open_gpu: Callable[[str], Gpu], journal: Journal) -> None:
        self.uuid = uuid
        self._open_gpu = open_gpu
        self._journal = journal
        self._gpu: Gpu | None = None
        self._range: CardRange | None = None
        # Of a card that is not in the journal nothing was set here; what else is there stays as it is.
        self._in_force: Setting | None = DEFAULT if journal.touched(uuid) == UNTOUCHED else None

    @property
    def in_force(self) -> Setting | None:
        """What was set here last; None where that is not known."""
        return self._in_force

    def is_at(self, wanted: Setting) -> bool:
        """Whether nothing is left to do, on the card and in the journal."""
        if self._in_force != wanted:
            return False
        return wanted != DEFAULT or self._journal.touched(self.uuid) == UNTOUCHED

    def reach(self, wanted: Setting) -> None:
        """Sets the card. Raises Refused, GpuGone or GpuError; then another `reach` goes on from there."""
        if self.is_at(wanted):
            return
        before, self._in_force = self._in_force, None
        with self._forgetting_what_is_gone():
            if before is None or before.clock_mhz != wanted.clock_mhz:
                self._reach_clock(wanted.clock_mhz)
            if before is None or before.limit_w != wanted.limit_w:
                self._reach_limit(wanted.limit_w)
        self._in_force = wanted

    def range(self) -> CardRange:
        """What the card can be set to. Raises GpuError."""
        if self._range is None:
            with self._forgetting_what_is_gone():
                gpu = self._present()
                self._range = CardRange(
                    _known(gpu.supported_clocks_mhz, ()), _known(gpu.power_limit_range_w, None)
                )
        return self._range

    def name(self) -> str:
        """Raises GpuError."""
        with self._forgetting_what_is_gone():
            return self._present().name

    def compute_pids(self) -> frozenset[int]:
        """Processes that compute on the card; none where it doesn't say. Raises GpuError."""
        with self._forgetting_what_is_gone():
            return _known(self._present().compute_pids, frozenset())

    def slices(self) -> tuple[str, ...]:
        """UUIDs of the instances that MIG splits the card into; none where it is whole. Raises GpuError."""
        with self._forgetting_what_is_gone():
            none: Sequence[Slice] = ()
            return tuple(one.uuid for one in _known(self._present().instances, none))

    def close(self) -> None:
        """Lets go of the card, set as it is."""
        gpu, self._gpu, self._range = self._gpu, None, None
        if gpu is not None:
            with contextlib.suppress(GpuError):
                gpu.close()

    def _reach_clock(self, clock_mhz: int | None) -> None:
        touched = self._journal.touched(self.uuid)
        if clock_mhz is not None:
            if not touched.clocks:
                self._journal.write(self.uuid, touched.model_copy(update={"clocks": True}))
            with self._untouched_if_refused(touched):
                self._present().lock_clocks_mhz(clock_mhz, clock_mhz)
        elif touched.clocks:
            self._present().reset_clocks()
            self._journal.write(self.uuid, touched.model_copy(update={"clocks": False}))

    def _reach_limit(self, limit_w: float | None) -> None:
        touched = self._journal.touched(self.uuid)
        if limit_w is not None:
            if touched.found_limit_w is None:
                found_w = self._present().power_limit_w()
                self._journal.write(self.uuid, touched.model_copy(update={"found_limit_w": found_w}))
            with self._untouched_if_refused(touched):
                self._set_limit(limit_w)
        elif touched.found_limit_w is not None:
            self._set_limit(touched.found_limit_w)
            self._journal.write(self.uuid, touched.model_copy(update={"found_limit_w": None}))

    @contextlib.contextmanager
    def _untouched_if_refused(self, before: Touched) -> Iterator[None]:
        """Who may not set the card, or can't, has set nothing, and has nothing to restore."""
        try:
            yield
        except Refused:
            if self._journal.touched(self.uuid) != before:
                self._journal.write(self.uuid, before)
            raise

    def _set_limit(self, limit_w: float) -> None:
        try:
            self._present().set_power_limit_w(limit_w)
        except ValueError as error:  # the card's range is another one than it was
            raise GpuError(str(error)) from error

    def _present(self) -> Gpu:
        if self._gpu is None:
            # By UUID: a card that fell off the bus may have left its index to another.
            self._gpu = self._open_gpu(self.uuid)
        return self._gpu

    @contextlib.contextmanager
    def _forgetting_what_is_gone(self) -> Iterator[None]:
        try:
            yield
        except GpuGone:
            self.close()
            self._in_force = None if self._journal.touched(self.uuid) != UNTOUCHED else self._in_force
            raise


def _known(read: Callable[[], _Value], otherwise: _Value) -> _Value:
    try:
        return read()
    except Refused:
        return otherwise
