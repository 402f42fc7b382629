"""One card's settings: written down, then set, then restored; whatever fails in between.

Owns what is believed to be in force and the order of journal and card. Knows the card only through the Gpu
protocol (energy.nvml keeps it) and not who wants what. Called by `keeper`, on one thread.

    before a kind of setting is touched   the journal says so, and the power limit that was found
    after it was restored                 the journal says no more
    a call failed                         what is in force is unknown: all is set anew the next time
    lost GPU or driver                    the same, on a card opened anew
    changed by others meanwhile           `check` sets it anew, and says what it saw of that
    the journal was lost                  the card's own default, before anything else

Of a power limit NVML says what is set. Of a clock lock it doesn't: it is set anew at each check, which
changes nothing where it still holds; a clock above it shows that it was lost, a lower one shows nothing (an
idle card's, a hot one's).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from energy.gpu import GpuError, GpuGone, NotPermitted, Refused
from energy.reopened import Reopened
from nodeagent.bounds import CardRange
from nodeagent.journal import UNTOUCHED, Journal, Touched
from nodeagent.leases import DEFAULT, Setting

HZ_PER_MHZ = 1_000_000
OFF_MHZ = 30  # that a card may be above its lock: clocks go in steps of 7.5 or 15 MHz
OFF_W = 1.0

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

    def clock_hz(self) -> float: ...

    def default_power_limit_w(self) -> float: ...

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
        self._card = Reopened(open_gpu, uuid)
        self._journal = journal
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
        if wanted == DEFAULT and self._journal.touched(self.uuid) == UNTOUCHED:
            self._in_force = DEFAULT  # nothing was set: also of a card that is lost nothing is owed
        if self.is_at(wanted):
            return
        before, self._in_force = self._in_force, None
        with self._open() as gpu:
            if self._journal.touched(self.uuid).suspected:
                self._restore_default(gpu)
            if before is None or before.clock_mhz != wanted.clock_mhz:
                self._reach_clock(gpu, wanted.clock_mhz)
            if before is None or before.limit_w != wanted.limit_w:
                self._reach_limit(gpu, wanted.limit_w)
        self._in_force = wanted

    def check(self) -> tuple[str, ...]:
        """What of the setting others have changed; it is set anew, seen or not. Raises GpuError."""
        wanted = self._in_force
        if wanted is None or wanted == DEFAULT:
            return ()
        try:
            with self._open() as gpu:
                return tuple(_set_anew(gpu, wanted))
        except GpuError:
            self._in_force = None
            raise

    def range(self) -> CardRange:
        """What the card can be set to. Raises GpuError."""
        if self._range is None:
            with self._open() as gpu:
                self._range = CardRange(
                    _known(gpu.supported_clocks_mhz, ()), _known(gpu.power_limit_range_w, None)
                )
        return self._range

    def name(self) -> str:
        """Raises GpuError."""
        with self._open() as gpu:
            return gpu.name

    def compute_pids(self) -> frozenset[int]:
        """Processes that compute on the card; none where it doesn't say. Raises GpuError."""
        with self._open() as gpu:
            return _known(gpu.compute_pids, frozenset())

    def slices(self) -> tuple[str, ...]:
        """UUIDs of the instances that MIG splits the card into; none where it is whole. Raises GpuError."""
        with self._open() as gpu:
            none: Sequence[Slice] = ()
            return tuple(one.uuid for one in _known(gpu.instances, none))

    def close(self) -> None:
        """Lets go of the card, set as it is."""
        self._range = None
        self._card.close()

    def _restore_default(self, gpu: Gpu) -> None:
        """The factory's: nobody knows what was found. What the card can't do nobody has set."""
        _unless_impossible(gpu.reset_clocks)
        _unless_impossible(lambda: _set_limit(gpu, gpu.default_power_limit_w()))
        self._journal.write(self.uuid, UNTOUCHED)

    def _reach_clock(self, gpu: Gpu, clock_mhz: int | None) -> None:
        touched = self._journal.touched(self.uuid)
        if clock_mhz is not None:
            if not touched.clocks:
                self._journal.write(self.uuid, touched.model_copy(update={"clocks": True}))
            with self._untouched_if_refused(touched):
                gpu.lock_clocks_mhz(clock_mhz, clock_mhz)
        elif touched.clocks:
            gpu.reset_clocks()
            self._journal.write(self.uuid, touched.model_copy(update={"clocks": False}))

    def _reach_limit(self, gpu: Gpu, limit_w: float | None) -> None:
        touched = self._journal.touched(self.uuid)
        if limit_w is not None:
            if touched.found_limit_w is None:
                found_w = gpu.power_limit_w()
                self._journal.write(self.uuid, touched.model_copy(update={"found_limit_w": found_w}))
            with self._untouched_if_refused(touched):
                _set_limit(gpu, limit_w)
        elif touched.found_limit_w is not None:
            _set_limit(gpu, touched.found_limit_w)
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

    @contextlib.contextmanager
    def _open(self) -> Iterator[Gpu]:
        try:
            with self._card.use() as gpu:
                yield gpu
        except GpuGone:
            self._range = None
            self._in_force = None if self._journal.touched(self.uuid) != UNTOUCHED else self._in_force
            raise


def _set_anew(gpu: Gpu, setting: Setting) -> Iterator[str]:
    """Tells what was seen not to be as set."""
    if setting.clock_mhz is not None:
        clock_hz = _known(gpu.clock_hz, None)
        if clock_hz is not None and clock_hz > (setting.clock_mhz + OFF_MHZ) * HZ_PER_MHZ:
            yield f"clock: locked to {setting.clock_mhz} MHz, is {clock_hz / HZ_PER_MHZ:g}"
        gpu.lock_clocks_mhz(setting.clock_mhz, setting.clock_mhz)
    if setting.limit_w is not None:
        limit_w = _known(gpu.power_limit_w, None)
        if limit_w is None or abs(limit_w - setting.limit_w) > OFF_W:
            if limit_w is not None:
                yield f"power limit: set to {setting.limit_w:g} W, is {limit_w:g}"
            _set_limit(gpu, setting.limit_w)


def _set_limit(gpu: Gpu, limit_w: float) -> None:
    try:
        gpu.set_power_limit_w(limit_w)
    except ValueError as error:  # the card's range is another one than it was
        raise GpuError(str(error)) from error


def _unless_impossible(act: Callable[[], None]) -> None:
    try:
        act()
    except NotPermitted:
        raise
    except Refused:
        pass


def _known(read: Callable[[], _Value], otherwise: _Value) -> _Value:
    try:
        return read()
    except Refused:
        return otherwise
