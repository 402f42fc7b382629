"""What the fleet's replicas reported lately: counters in columns, latencies merged for all of them at once.

Each look takes in only what is new: a sketch is read once, and counters become rows of numbers, so that a
look at 10,000 replicas is a few operations on arrays (`make bench-scaler`). Pure. Owns which two reports of a
replica a rate is taken between, and which samples count; `signals` turns that into what the fleet does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from scaler.bus import FleetView
from scaler.latency_sketch import Latencies, combined, merge
from scaler.report import ReplicaState, Report

_Floats = NDArray[np.float64]
_Indices = NDArray[np.intp]

_PLAIN = (
    "received_s",
    "completions_total",
    "texts_total",
    "tokens_total",
    "padded_tokens_total",
    "batches_total",
    "batched_texts_total",
    "busy_s_total",
    "reflex_s_total",
    "arrivals_total",
)
_BY_REASON = ("turned_away_total", "refused_total", "overload_refusals_total")
_COLUMN = {name: index for index, name in enumerate((*_PLAIN, *_BY_REASON))}


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """The reports that one look brought, in their order. `slots` is where their replicas stand."""

    latest_s: float
    slots: _Indices
    rows: _Floats  # [reports, columns]
    latencies: Latencies | None


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Of each known replica's two reports: the seconds between them, and what happened meanwhile."""

    seconds: _Floats  # [replicas]
    _counted: _Floats  # [replicas, columns]

    def total(self, counter: str) -> float:
        """Of all replicas; the counter as Report names it."""
        return float(self._counted[:, _COLUMN[counter]].sum())

    def per_second(self, counter: str) -> float:
        """Of all replicas: the sum of their rates."""
        return float((self._counted[:, _COLUMN[counter]] / self.seconds).sum())


@dataclass(frozen=True, slots=True, eq=False)
class SignalMemory:
    """The members' newest reports, and what all of them reported within the horizon."""

    newest: tuple[Report, ...] = ()  # by slot
    slots: Mapping[str, int] = field(default_factory=dict)  # by replica
    looks: tuple[_Look, ...] = ()  # oldest first

    def after(self, view: FleetView, now_s: float, horizon_s: float) -> SignalMemory:
        """With the view's reports; without replicas that left and what is older than the horizon."""
        memory = self._of_members(view.members)
        memory = memory._with_reports(view, horizon_s)
        return replace(
            memory, looks=tuple(look for look in memory.looks if look.latest_s >= now_s - horizon_s)
        )

    def latencies(self, since_s: float) -> Latencies | None:
        """Samples reported after that. Of who was still warming there are none."""
        return combined(look.latencies for look in self.looks if look.latest_s > since_s)

    def reports_since(self, since_s: float) -> _Indices:
        """Each replica's, by slot."""
        slots, received_s = self._all_reports()
        return np.bincount(slots[received_s >= since_s], minlength=len(self.newest))

    def differences(self, replicas: Sequence[int], window_s: float, since_s: float) -> Differences:
        """Between each replica's last report and its newest that is `window_s` older, or its oldest there is.

        Replicas by slot, each with two reports or more after `since_s`.
        """
        chosen = np.asarray(replicas, dtype=np.intp)
        slots, received_s = self._all_reports()
        kept = np.flatnonzero(received_s >= since_s)  # places among all reports, oldest first
        slots, received_s = slots[kept], received_s[kept]
        lasts = np.full(len(self.newest), -1)
        np.maximum.at(lasts, slots, kept)
        last = self._rows(lasts[chosen])
        firsts = np.full(len(self.newest), np.iinfo(np.intp).max)
        np.minimum.at(firsts, slots, kept)
        aged_s = np.full(len(self.newest), -np.inf)
        aged_s[chosen] = last[:, 0] - window_s
        aged = received_s <= aged_s[slots]
        np.maximum.at(firsts, slots[aged], kept[aged])
        first = self._rows(firsts[chosen])
        # A counter that went back was started anew: all of it is since then.
        counted = np.where(last >= first, last - first, last)
        return Differences(np.maximum(1e-3, last[:, 0] - first[:, 0]), counted)

    def _all_reports(self) -> tuple[_Indices, _Floats]:
        """Slots and times of the looks' reports, oldest first."""
        if not self.looks:
            return np.zeros(0, dtype=np.intp), np.zeros(0)
        slots = np.concatenate([look.slots for look in self.looks])
        return slots, np.concatenate([look.rows[:, 0] for look in self.looks])

    def _rows(self, places: _Indices) -> _Floats:
        """[places, columns]: of the reports that stand at these places among all of the looks'."""
        rows = np.empty((len(places), len(_COLUMN)))
        begin = 0
        for look in self.looks:
            end = begin + len(look.slots)
            here = np.flatnonzero((places >= begin) & (places < end))
            rows[here] = look.rows[places[here] - begin]
            begin = end
        return rows

    def _of_members(self, members: frozenset[str]) -> SignalMemory:
        if self.slots.keys() <= members:
            return self
        newest = tuple(report for report in self.newest if report.replica_id in members)
        slots = {report.replica_id: slot for slot, report in enumerate(newest)}
        moved = np.array([slots.get(report.replica_id, -1) for report in self.newest], dtype=np.intp)
        return SignalMemory(newest, slots, tuple(_moved(look, moved) for look in self.looks))

    def _with_reports(self, view: FleetView, horizon_s: float) -> SignalMemory:
        newest, slots = list(self.newest), dict(self.slots)
        taken: list[Report] = []
        places: list[int] = []
        sketches: list[bytes] = []
        for report in view.reports:
            slot = slots.get(report.replica_id)
            if slot is None:
                if report.replica_id not in view.members:
                    continue
                slot = slots[report.replica_id] = len(newest)
                newest.append(report)
            else:
                if _counts(newest[slot], report, horizon_s):
                    sketches.append(report.latency_sketch)
                newest[slot] = report
            taken.append(report)
            places.append(slot)
        if not taken:
            return self
        latest_s = max(report.received_s for report in taken)
        look = _Look(latest_s, np.array(places, dtype=np.intp), _columns(taken), merge(sketches))
        return SignalMemory(tuple(newest), slots, (*self.looks, look))


def _counts(before: Report, report: Report, horizon_s: float) -> bool:
    """Whether its latencies are of now: a replica's first ready report covers its warming too, and the first
    after a long silence all of the silence."""
    starting = ReplicaState.STARTING in (before.state, report.state)
    return not starting and report.received_s - before.received_s <= horizon_s


def _columns(reports: Sequence[Report]) -> _Floats:
    rows = np.zeros((len(reports), len(_COLUMN)))
    for column, name in enumerate(_PLAIN):
        rows[:, column] = np.fromiter(map(attrgetter(name), reports), np.float64, len(reports))
    for index, report in enumerate(reports):
        if report.refusals_total:
            rows[index, len(_PLAIN) :] = [getattr(report, name) for name in _BY_REASON]
    return rows


def _moved(look: _Look, moved: _Indices) -> _Look:
    """As slots are numbered now: `moved` by old slot, -1 where the replica left. Its samples stay."""
    slots = moved[look.slots]
    stays = slots >= 0
    return replace(look, slots=slots[stays], rows=look.rows[stays])
