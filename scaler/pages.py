"""Reports that came together, read into columns when they come, so that a beat reads arrays and not objects.

A fleet of 10,000 reports all through the second and is looked at once in it: what can be made of a report
alone is made here, as it comes, and a beat is left with a few operations on arrays (`make bench-fleet`). Owns
which numbers and words of a report the beat needs. Buses make pages, `signal_memory` and `fleet_joules` read
them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaler.latency_sketch import Latencies, merge
from scaler.report import Metered, ReplicaState, Report

_Floats = NDArray[np.float64]

PAGE = 500  # reports: some milliseconds' work, and a page of a fleet that starts is merged again in less

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
_COUNTERS = (*_PLAIN, *_BY_REASON)
COUNTERS = len(_COUNTERS)  # columns that differences are taken of stand first
# NaN where it is not known.
_GAUGES = ("queue_depth", "in_flight", "state", "start_up_s", "watts", "joules_total")
COLUMN = {name: index for index, name in enumerate((*_COUNTERS, *_GAUGES))}
STATE_CODE = {state: float(code) for code, state in enumerate(ReplicaState)}
_counted = attrgetter(*_PLAIN)


class Words(NamedTuple):
    """What a report says in words. They seldom change from one report to the next: in a bus's pages those of
    a replica are the same object then, and to compare them takes next to nothing."""

    replica_id: str
    host: str
    device: str  # of the meter; empty where there is none
    source: str
    variant: str
    sm_clock_refused: str


_NOBODY: Mapping[str, Words] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """All columns in the reports' order, the oldest first."""

    reports: tuple[Report, ...]
    names: tuple[str, ...]
    words: tuple[Words, ...]
    rows: _Floats  # [reports, COLUMN]
    versions: NDArray[np.uint64]  # of the operating points in force: no float holds them all
    latencies: Latencies | None  # of all of them, whether they count or not

    @classmethod
    def of(cls, reports: Sequence[Report], known: Mapping[str, Words] = _NOBODY) -> Page:
        """`known`: by replica, what was said before."""
        count = len(reports)
        rows = np.zeros((count, len(COLUMN)))
        counters = np.fromiter(chain.from_iterable(map(_counted, reports)), np.float64, count * len(_PLAIN))
        rows[:, : len(_PLAIN)] = counters.reshape(count, len(_PLAIN))
        gauges = np.fromiter(chain.from_iterable(map(_gauges, reports)), np.float64, count * len(_GAUGES))
        rows[:, COUNTERS:] = gauges.reshape(count, len(_GAUGES))
        for index, report in enumerate(reports):
            if report.refusals_total:
                rows[index, len(_PLAIN) : COUNTERS] = [getattr(report, name) for name in _BY_REASON]
        words = tuple([_words(report, known) for report in reports])
        return cls(
            tuple(reports),
            tuple([one.replica_id for one in words]),
            words,
            rows,
            np.fromiter([report.operating_point_version for report in reports], np.uint64, count),
            merge(report.latency_sketch for report in reports),
        )


class Unread:
    """Reports that nobody collected yet, in pages as soon as there are enough for one."""

    def __init__(self) -> None:
        self._pages = deque[Page]()
        self._rest: list[Report] = []
        self._count = 0
        self._known: dict[str, Words] = {}
        self._spent = deque[Page]()

    def add(self, report: Report) -> None:
        self._rest.append(report)
        self._count += 1
        if len(self._rest) >= PAGE:
            self._pages.append(self._page())
            if self._spent:
                self._spent.popleft()

    def keep(self, most: int) -> None:
        """Of more than that the oldest are dropped, a page at a time."""
        while self._count > most:
            if self._pages:
                self._count -= len(self._pages.popleft().names)
            else:
                del self._rest[: self._count - most]
                self._count = most

    def taken(self) -> tuple[Page, ...]:
        """All of them: none is handed out twice."""
        if self._rest:
            self._pages.append(self._page())
        pages = tuple(self._pages)
        if len(self._known) > 2 * self._count + PAGE:  # for the most part of replicas that left
            self._known = {one.replica_id: one for page in pages for one in page.words}
        # To free ten thousand reports takes milliseconds: they go as the next come, and not in the beat.
        self._spent, self._pages, self._count = self._pages, deque(), 0
        return pages

    def _page(self) -> Page:
        page = Page.of(self._rest, self._known)
        self._known.update(zip(page.names, page.words, strict=True))
        self._rest = []
        return page


def _gauges(report: Report) -> tuple[float, ...]:
    power, start_up_s = report.power, report.start_up_s
    watts, joules = (power.watts, power.joules_total) if isinstance(power, Metered) else (None, None)
    return (
        report.queue_depth,
        report.in_flight,
        STATE_CODE[report.state],
        math.nan if start_up_s is None else start_up_s,
        math.nan if watts is None else watts,
        math.nan if joules is None else joules,
    )


def _words(report: Report, known: Mapping[str, Words]) -> Words:
    power = report.power
    device, source = (power.device, power.source) if isinstance(power, Metered) else ("", "")
    words = Words(report.replica_id, report.host, device, source, report.variant, report.sm_clock_refused)
    before = known.get(words.replica_id)
    return before if before is not None and before == words else words
