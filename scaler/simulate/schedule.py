"""The cheapest number of replicas over time when everything is known: dynamic programming.

Pure. In each slot n replicas cost `table[level of the slot, n]`; a replica more than in the slot before costs
a start, one fewer nothing, and each device that ever had a replica and has none costs its parked joules. Owns
the recursion and the way back; what a slot costs is `optimum`'s matter, which calls this.

V_t(n) = table[level_t, n] + min over m of V_{t-1}(m) + start · max(0, n - m): the minimum over m ≥ n is a
running minimum from above, that over m < n one from below of V(m) - start · m. So a slot takes O(replicas),
and several tables, one for each price of a late request, go through one pass together.

The devices that there are can only grow. They are states too, in *layers*: one for the devices of the
beginning, one for each of the first few more, and then for ranges that widen, in which the parked joules are
those of the range's fewest devices: exact up to there, and never too high beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_KEPT_EVERY = 1024  # runs between the values that are kept for the way back
_EXACT = 16  # devices more that have layers of their own
_WIDER = 1.2  # a range's highest number of further devices, to that of the one before


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Runs of equal slots: `levels[i]` is the tables' row of the i-th run, `lengths[i]` its number of slots.

    In a run each slot costs the same, so an optimum changes replicas only where runs meet: a change amid a
    run is as good at one of its ends.
    """

    levels: _Ints  # [runs]
    lengths: _Floats  # [runs]

    @staticmethod
    def of(levels: _Ints) -> Slots:
        """From the row of each single slot."""
        if len(levels) == 0:
            return Slots(levels, np.zeros(0))
        begins = np.flatnonzero(np.diff(levels, prepend=levels[0] - 1))
        return Slots(levels[begins], np.diff(begins, append=len(levels)).astype(np.float64))


@dataclass(frozen=True, slots=True)
class Devices:
    """In choices: choice i is i replicas more than the fewest allowed."""

    first: int  # choice before the first slot: all its devices have a replica; may lie above all choices
    again: float  # joules of a start on a parked device
    new: float  # on one more device; not less than `again`
    parked: float  # joules of a parked device in a slot

    def layers(self, choices: int) -> list[tuple[int, int]]:
        """(devices at least, highest choice) of each."""
        highest = choices - 1
        if self.first >= highest or (self.parked == 0 and self.new == self.again):
            return [(self.first, highest)]
        layers = [(self.first, self.first)]
        while layers[-1][1] < highest:
            least = layers[-1][1] + 1
            more = least - self.first
            widest = least if more <= _EXACT else self.first + int(_WIDER * more)
            layers.append((least, min(highest, widest)))
        return layers


def cheapest(tables: _Floats, slots: Slots, devices: Devices) -> _Floats:
    """[tables]: the least total for each. `tables` is [tables, levels, choices]."""
    step = _Step(len(tables), tables.shape[2], devices)
    rows = np.ascontiguousarray(tables.transpose(1, 0, 2))
    values = step.begin()
    for level, length in zip(slots.levels.tolist(), slots.lengths.tolist(), strict=True):
        step.advance(values, rows[level], length)
    return np.asarray(values.min(axis=(1, 2)), dtype=np.float64)


def cheapest_choices(table: _Floats, slots: Slots, devices: Devices) -> _Ints:
    """[runs]: the choice in each run of one cheapest schedule. `table` is [levels, choices]."""
    step = _Step(1, table.shape[1], devices)
    values = step.begin()
    levels, lengths = slots.levels.tolist(), slots.lengths.tolist()
    kept = []
    for run, (level, length) in enumerate(zip(levels, lengths, strict=True)):
        if run % _KEPT_EVERY == 0:
            kept.append(values.copy())
        step.advance(values, table[level], length)
    taken = np.zeros(len(levels), dtype=np.int64)
    layer, choice = divmod(int(values.argmin()), table.shape[1])
    for part in range(len(kept) - 1, -1, -1):
        runs = range(part * _KEPT_EVERY, min((part + 1) * _KEPT_EVERY, len(levels)))
        before = []
        values = kept[part]
        for run in runs:
            before.append(values[0].copy())
            step.advance(values, table[levels[run]], lengths[run])
        for run in reversed(runs):
            taken[run] = choice
            _, layer, choice = step.came_from(before.pop(), layer, choice)
    return taken


class _Step:
    """One slot further, in place; holds the space that it needs. Values are [tables, layers, choices]."""

    def __init__(self, tables: int, choices: int, devices: Devices) -> None:
        self._devices = devices
        self._layers = devices.layers(choices)
        shape = (tables, len(self._layers), choices)
        numbers = np.arange(choices)
        self._ramp = devices.again * numbers
        self._parked = np.stack(
            [
                np.where(numbers <= highest, devices.parked * np.maximum(0, least - numbers), np.inf)
                for least, highest in self._layers
            ]
        )
        self._numbers = numbers
        least, self._top = np.array(self._layers).T
        self._top = np.minimum(self._top, choices - 1)
        # From one layer's top to the next one's: a new device, and starts up to the top.
        to_top = np.diff(self._top) + np.zeros(len(self._layers) - 1)
        self._climbed = np.concatenate(([0.0], np.cumsum(devices.new + devices.again * (to_top - 1))))
        self._entry = np.where(numbers >= least[1:, None], 0.0, np.inf)
        self._enter = devices.new - devices.again * least[1:]
        self._below, self._above = np.empty(shape), np.empty(shape)
        self._entered = np.empty((tables, len(self._layers) - 1, choices))

    def begin(self) -> _Floats:
        values = np.full(self._below.shape, np.inf)
        values[:, 0, min(self._devices.first, values.shape[2] - 1)] = 0.0
        return values

    def advance(self, values: _Floats, row: _Floats, length: float) -> None:
        """`row`: [tables, choices] of one slot, of which `length` follow."""
        below, above = self._below, self._above
        np.subtract(values, self._ramp, out=below)
        np.minimum.accumulate(below, axis=2, out=below)
        if len(self._layers) > 1:
            tops = below[:, np.arange(len(self._layers)), self._top] + (self._ramp[self._top] - self._climbed)
            np.minimum.accumulate(tops, axis=1, out=tops)
            entries = tops[:, :-1] + (self._climbed[:-1] + self._enter)
            np.add(entries[:, :, None], self._entry, out=self._entered)
            np.minimum(below[:, 1:], self._entered, out=below[:, 1:])
        np.add(below, self._ramp, out=below)
        np.minimum.accumulate(values[..., ::-1], axis=2, out=above[..., ::-1])
        np.minimum(below, above, out=below)
        np.multiply(self._parked + row.reshape(-1, 1, row.shape[-1]), length, out=values)
        np.add(values, below, out=values)

    def came_from(self, before: _Floats, layer: int, choice: int) -> tuple[float, int, int]:
        """(value, layer, choice) before the slot. Of equals the present choice: no change for nothing."""
        devices = self._devices
        came = before[layer] + devices.again * np.maximum(0, choice - self._numbers)
        best = choice if came[choice] <= came.min() else int(came.argmin())
        least, _ = self._layers[layer]
        if layer == 0 or choice < least:
            return float(came[best]), layer, best
        value, below, left = self.came_from(before, layer - 1, least - 1)
        value += devices.new + devices.again * (choice - least)
        return (value, below, left) if value < came[best] else (float(came[best]), layer, best)
