"""Joules of a whole fleet since it was first looked at, replicas that are gone included.

Pure. Each (host, device) counts once, however many replicas read it; the sum never goes back. All devices
that a look brings are counted at once, as arrays: a fleet has tens of thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from scaler.pages import COLUMN, Page, Words

_Floats = NDArray[np.float64]
_Indices = NDArray[np.intp]

_PROCESS = "process:"
_JOULES = COLUMN["joules_total"]

_Device = tuple[str, str, str]  # host, device, replica: the last only where the meter is the replica's own
_Reader = tuple[str, str, str]  # host, device, replica that reads it


@dataclass(frozen=True, slots=True, eq=False)
class _Meters:
    """Who reads which device, each with a place in the arrays. It only grows: what is gone still counts."""

    devices: Mapping[_Device, int] = field(default_factory=dict)
    readers: Mapping[_Reader, int] = field(default_factory=dict)
    device_of: _Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))  # by reader
    own: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))  # by device
    newest: Mapping[str, int] = field(default_factory=dict)  # the reader that each replica was last
    said: tuple[Words, ...] = ()  # by reader

    def read_by(self, names: Sequence[str], words: Sequence[Words]) -> tuple[_Meters, _Indices]:
        """With these, and which readers they are."""
        found = np.fromiter(map(self.newest.get, names, repeat(-1)), np.intp, len(names))
        if found.min() >= 0 and [self.said[place] for place in found.tolist()] == words:
            return self, found
        devices, readers, newest = dict(self.devices), dict(self.readers), dict(self.newest)
        device_of, own, said = self.device_of.tolist(), self.own.tolist(), list(self.said)
        for index, (name, one) in enumerate(zip(names, words, strict=True)):
            is_own = one.device.startswith(_PROCESS)
            place = readers.setdefault((one.host, one.device, name), len(readers))
            if place == len(said):
                said.append(one)
                device_of.append(
                    devices.setdefault((one.host, one.device, name if is_own else ""), len(devices))
                )
                own.extend([is_own] * (len(devices) - len(own)))
            said[place], newest[name], found[index] = one, place, place
        grown = _Meters(
            devices, readers, np.array(device_of, np.intp), np.array(own, np.bool_), newest, tuple(said)
        )
        return grown, found


@dataclass(frozen=True, slots=True, eq=False)
class FleetJoules:
    """`total_j` is None until a meter gave joules: no joules known is not no joules.

    `owns_processes`: the fleet's processes were started after this account began, so that all of a process
    meter's joules are the fleet's. A card's counter runs since its driver was loaded: the first reading is
    its zero.
    """

    owns_processes: bool
    total_j: float | None = None
    sources: frozenset[str] = frozenset()
    _meters: _Meters = field(default_factory=_Meters)
    _highest_j: _Floats = field(default_factory=lambda: np.zeros(0))  # by device; NaN before its first
    _last_j: _Floats = field(default_factory=lambda: np.zeros(0))  # as each reader read it last

    @property
    def source(self) -> str:
        """The kinds of meters that gave the joules, joined with +, or unknown."""
        return "+".join(sorted(self.sources)) or "unknown"

    def after(self, pages: Iterable[Page]) -> FleetJoules:
        """With the reports' joules counted in, oldest first."""
        names: list[str] = []
        words: list[Words] = []
        read_j: list[_Floats] = []
        for page in pages:
            joules = page.rows[:, _JOULES]
            told = np.flatnonzero(~np.isnan(joules))
            if len(told) == len(joules):  # as nearly always: nothing to pick out
                read_j.append(joules)
                names += page.names
                words += page.words
                continue
            read_j.append(joules[told])
            names += [page.names[place] for place in told.tolist()]
            words += [page.words[place] for place in told.tolist()]
        if not names:
            return self
        # Of all pages at once: a newcomer costs a copy of all who ever read, and each page may bring one.
        meters, reader = self._meters.read_by(names, words)
        device, now_j = meters.device_of[reader], np.concatenate(read_j)
        highest_j = _grown(self._highest_j, len(meters.own), np.nan)
        last_j = _grown(self._last_j, len(meters.device_of), 0.0)
        total_j = self.total_j or 0.0
        for these in _each_device_once(device):
            total_j += self._gained_j(
                meters.own, highest_j, last_j, device[these], reader[these], now_j[these]
            )
        sources = self.sources if meters is self._meters else self.sources | {one.source for one in words}
        return FleetJoules(self.owns_processes, total_j, sources, meters, highest_j, last_j)

    def _gained_j(
        self,
        own: NDArray[np.bool_],
        highest_j: _Floats,
        last_j: _Floats,
        device: _Indices,
        reader: _Indices,
        now_j: _Floats,
    ) -> float:
        """By readings of different devices, which are written into `highest_j` and `last_j`."""
        known_j = highest_j[device]
        first = np.isnan(known_j)
        reset = (now_j < known_j) & (now_j < last_j[reader])
        whole = reset | (first & own[device] & self.owns_processes)
        # A neighbour on the same device may have read, and told, a later total already: nothing new then.
        gained_j = np.where(whole, now_j, np.where(first, 0.0, np.maximum(0.0, now_j - known_j)))
        highest_j[device] = np.where(reset | first, now_j, np.maximum(now_j, known_j))
        last_j[reader] = now_j
        return float(gained_j.sum())


def _grown(values: _Floats, size: int, fill: float) -> _Floats:
    """A copy."""
    return np.concatenate([values, np.full(size - len(values), fill)])


def _each_device_once(device: _Indices) -> Iterator[_Indices]:
    """Places of readings: all devices' first, then all their second, and so on."""
    order = np.argsort(device, kind="stable")
    begins = np.flatnonzero(np.diff(device[order], prepend=-1))
    rank = np.empty(len(device), dtype=np.intp)
    rank[order] = np.arange(len(device)) - np.repeat(begins, np.diff(begins, append=len(device)))
    yield from np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
