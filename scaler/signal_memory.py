"""What the fleet's replicas reported lately, as arrays: a look at 10,000 of them is a few operations.

Each look takes in only what is new, from pages whose columns were read as the reports came. A replica has a
slot, and what it said last stands there in each array; its counters within the horizon stand in the looks.
Pure: a look makes a new memory and changes none (`make bench-scaler`). Owns which two reports of a replica a
rate is taken between, and which samples count; `signals` turns that into what the fleet does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from scaler.bus import FleetView
from scaler.latency_sketch import Latencies, combined, merge
from scaler.pages import COLUMN, COUNTERS, STATE_CODE, Page, Words
from scaler.report import ReplicaState

_Floats = NDArray[np.float64]
_Indices = NDArray[np.intp]
_Value = TypeVar("_Value")

_RECEIVED, _STATE = COLUMN["received_s"], COLUMN["state"]
_STARTING = STATE_CODE[ReplicaState.STARTING]


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """The reports that one look brought, in their order. `slots` is where their replicas stand."""

    latest_s: float
    slots: _Indices
    received_s: _Floats
    rows: _Floats  # [reports, COUNTERS]
    latencies: Latencies | None


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Of each known replica's two reports: the seconds between them, and what happened meanwhile."""

    seconds: _Floats  # [replicas]
    _counted: _Floats  # [replicas, COUNTERS]

    def total(self, counter: str) -> float:
        """Of all replicas; the counter as Report names it."""
        return float(self._counted[:, COLUMN[counter]].sum())

    def per_second(self, counter: str) -> float:
        """Of all replicas: the sum of their rates."""
        return float((self._counted[:, COLUMN[counter]] / self.seconds).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Coded(Generic[_Value]):
    """A value of each replica, as its place among those there are."""

    values: tuple[_Value, ...]
    places: _Indices  # by slot

    @classmethod
    def of(cls, values: Sequence[_Value]) -> Coded[_Value]:
        known: dict[_Value, int] = {}
        places = [known.setdefault(value, len(known)) for value in values]
        return cls(tuple(known), np.array(places, dtype=np.intp))

    def counts(self, slots: NDArray[np.bool_]) -> dict[_Value, int]:
        """How many of these replicas have which."""
        counted = np.bincount(self.places[slots], minlength=len(self.values)).tolist()
        return {value: count for value, count in zip(self.values, counted, strict=True) if count}


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the replicas said in words, by slot: told apart only once a word has changed."""

    words: tuple[Words, ...]
    devices: Coded[tuple[str, str]]  # host and device
    sources: Coded[str]
    variants: Coded[str]
    sm_clock_refused: str  # the first

    @classmethod
    def of(cls, words: Sequence[Words]) -> Said:
        return cls(
            tuple(words),
            Coded.of([(one.host, one.device) for one in words]),
            Coded.of([one.source for one in words]),
            Coded.of([one.variant for one in words]),
            next((one.sm_clock_refused for one in words if one.sm_clock_refused), ""),
        )


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The reports of all replicas within a time, oldest first."""

    _looks: Sequence[_Look]
    _slots: _Indices
    _received_s: _Floats
    _kept: _Indices  # their places among all of the looks'
    _replicas: int

    def counts(self) -> _Indices:
        """How many each replica's are, by slot."""
        return np.bincount(self._slots, minlength=self._replicas)

    def differences(self, chosen: _Indices, window_s: float) -> Differences:
        """Between each replica's last report and its newest that is `window_s` older, or its oldest there is.

        Replicas by slot, each with two reports or more.
        """
        slots, kept = self._slots, self._kept
        # Of a place that is assigned to repeatedly the last value stays.
        lasts = np.zeros(self._replicas, dtype=np.intp)
        lasts[slots] = kept
        last = self._rows(lasts[chosen])
        firsts = np.zeros(self._replicas, dtype=np.intp)
        firsts[slots[::-1]] = kept[::-1]
        aged_s = np.full(self._replicas, -np.inf)
        aged_s[chosen] = last[:, _RECEIVED] - window_s
        aged = self._received_s <= aged_s[slots]
        firsts[slots[aged]] = kept[aged]
        first = self._rows(firsts[chosen])
        # A counter that went back was started anew: all of it is since then.
        counted = np.where(last >= first, last - first, last)
        return Differences(np.maximum(1e-3, last[:, _RECEIVED] - first[:, _RECEIVED]), counted)

    def _rows(self, places: _Indices) -> _Floats:
        """[places, COUNTERS]: of the reports that stand at these places among all of the looks'."""
        ends = np.cumsum([len(look.slots) for look in self._looks])
        which = np.searchsorted(ends, places, side="right")
        rows = np.empty((len(places), COUNTERS))
        for number in np.flatnonzero(np.bincount(which)).tolist():
            look, here = self._looks[number], np.flatnonzero(which == number)
            rows[here] = look.rows[places[here] - (ends[number] - len(look.slots))]
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class SignalMemory:
    """What the members said last, by slot, and what all of them reported within the horizon."""

    slots: Mapping[str, int] = field(default_factory=dict)  # by replica, in the order of slots
    newest: _Floats = field(default_factory=lambda: np.zeros((0, len(COLUMN))))  # [slots, COLUMN]
    versions: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    said: Said = field(default_factory=lambda: Said.of(()))
    looks: tuple[_Look, ...] = ()  # oldest first
    members: frozenset[str] = frozenset()  # that the slots were checked against

    def after(self, view: FleetView, now_s: float, horizon_s: float) -> SignalMemory:
        """With the view's reports; without replicas that left and what is older than the horizon."""
        memory = self._of_members(view.members)
        memory = memory._with_reports(view, horizon_s)
        return replace(
            memory, looks=tuple(look for look in memory.looks if look.latest_s >= now_s - horizon_s)
        )

    def column(self, name: str) -> _Floats:
        """What each replica said last, by slot; as Report names it."""
        column: _Floats = self.newest[:, COLUMN[name]]
        return column

    def latencies(self, since_s: float) -> Latencies | None:
        """Samples reported after that. Of who was still warming there are none."""
        return combined(look.latencies for look in self.looks if look.latest_s > since_s)

    def history(self, since_s: float) -> History:
        """Of the reports since then."""
        if self.looks:
            slots = np.concatenate([look.slots for look in self.looks])
            received_s = np.concatenate([look.received_s for look in self.looks])
        else:
            slots, received_s = np.zeros(0, dtype=np.intp), np.zeros(0)
        kept = np.flatnonzero(received_s >= since_s)
        return History(self.looks, slots[kept], received_s[kept], kept, len(self.slots))

    def _of_members(self, members: frozenset[str]) -> SignalMemory:
        if members is self.members:
            return self
        if self.slots.keys() <= members:
            return replace(self, members=members)
        stays = np.array([name in members for name in self.slots], dtype=np.bool_)
        moved = np.where(stays, np.cumsum(stays) - 1, -1)
        names = [name for name in self.slots if name in members]
        return SignalMemory(
            slots={name: slot for slot, name in enumerate(names)},
            newest=self.newest[stays],
            versions=self.versions[stays],
            said=Said.of([words for words, stay in zip(self.said.words, stays, strict=True) if stay]),
            looks=tuple(_moved(look, moved) for look in self.looks),
            members=members,
        )

    def _with_reports(self, view: FleetView, horizon_s: float) -> SignalMemory:
        names = list(chain.from_iterable(page.names for page in view.pages))
        if not names:
            return self
        all_slots, places = self._placed(names, view.members)
        rows = np.concatenate([page.rows for page in view.pages])
        taken = np.flatnonzero(places >= 0)
        if not len(taken):
            return self
        counting = np.zeros(len(names), dtype=np.bool_)
        counting[taken] = self._counting(places[taken], rows[taken], horizon_s)
        latencies = _latencies(view.pages, counting)
        versions = np.concatenate([page.versions for page in view.pages])
        words = list(chain.from_iterable(page.words for page in view.pages))
        if len(taken) < len(names):
            rows, versions, places = rows[taken], versions[taken], places[taken]
            words = [words[place] for place in taken.tolist()]
        latest_s = float(rows[:, _RECEIVED].max())
        look = _Look(latest_s, places, rows[:, _RECEIVED].copy(), rows[:, :COUNTERS].copy(), latencies)
        added = len(all_slots) - len(self.slots)
        newest = np.concatenate([self.newest, np.zeros((added, len(COLUMN)))])
        newest[places] = rows
        kept_versions = np.concatenate([self.versions, np.zeros(added, dtype=np.uint64)])
        kept_versions[places] = versions
        said = self._heard(places, words, added)
        return SignalMemory(all_slots, newest, kept_versions, said, (*self.looks, look), view.members)

    def _placed(self, names: Sequence[str], members: frozenset[str]) -> tuple[Mapping[str, int], _Indices]:
        """The slots with those of members that were not known, and the slot of each report or -1."""
        places = np.fromiter(map(self.slots.get, names, repeat(-1)), np.intp, len(names))
        unknown = np.flatnonzero(places < 0).tolist()
        if not unknown:
            return self.slots, places
        slots = dict(self.slots)
        for place in unknown:
            name = names[place]
            if name in members:
                places[place] = slots.setdefault(name, len(slots))
        return slots, places

    def _counting(self, slots: _Indices, rows: _Floats, horizon_s: float) -> NDArray[np.bool_]:
        """Of which reports the latencies are of now: a replica's first ready report covers its warming too,
        and the first after a long silence all of the silence."""
        known = slots < len(self.slots)
        before = np.full((len(slots), 2), np.nan)  # received, state; of no report before NaN
        said = np.array([_RECEIVED, _STATE])
        before[known] = self.newest[np.ix_(slots[known], said)]
        order = np.argsort(slots, kind="stable")
        again = order[1:][slots[order[1:]] == slots[order[:-1]]]  # a replica's second in this look, and so on
        if len(again):
            following = np.zeros(len(slots), dtype=np.intp)
            following[order[1:]] = order[:-1]
            before[again] = rows[np.ix_(following[again], said)]
        starting = (before[:, 1] == _STARTING) | (rows[:, _STATE] == _STARTING)
        counting: NDArray[np.bool_] = ~starting & (rows[:, _RECEIVED] - before[:, 0] <= horizon_s)
        return counting

    def _heard(self, slots: _Indices, words: Sequence[Words], added: int) -> Said:
        now = [*self.said.words, *repeat(words[0], added)]
        for slot, one in zip(slots.tolist(), words, strict=True):
            now[slot] = one
        said = tuple(now)
        return self.said if said == self.said.words else Said.of(said)


def _latencies(pages: Iterable[Page], counting: NDArray[np.bool_]) -> Latencies | None:
    """Of the reports that count. A page whose reports all do was merged when it came."""
    parts, begin = [], 0
    for page in pages:
        counts = counting[begin : begin + len(page.names)]
        begin += len(page.names)
        if counts.all():
            parts.append(page.latencies)
        else:
            parts.append(merge(page.reports[place].latency_sketch for place in np.flatnonzero(counts)))
    return combined(parts)


def _moved(look: _Look, moved: _Indices) -> _Look:
    """As slots are numbered now: `moved` by old slot, -1 where the replica left. Its samples stay."""
    slots = moved[look.slots]
    stays = slots >= 0
    return replace(look, slots=slots[stays], received_s=look.received_s[stays], rows=look.rows[stays])
