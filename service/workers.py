"""The threads that compute batches, shared by all resident models, and who gets which part of a batch.

A model brings one engine a worker; the threads, and with them the device, are the replica's. As many batches
are computed at once as there are workers, however many models are resident: two models never compute on the
same cores at once, so what a batch will take can still be predicted. While several models have something due
they take turns, a batch each: whoever was served longest ago is asked first. Called by the `batcher`s.

Shortly before a worker is done the next batch is given: on its way through the event loop to a thread a batch
spends a millisecond or more while the cores are busy, in which that worker would idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from service.dispatch import Batch
from service.engine import Engine
from service.request import ComputedBatch
from service.service_time import ServiceTime

Outcome = ComputedBatch | Exception
AHEAD_S = 0.002  # before a worker is expected to be free its next batch is given
TIMER_S = 0.001  # of the loop's timers, the finest: uvloop's end up to that much too early


@dataclass(frozen=True, slots=True)
class Engines:
    """A model's, one a worker. `apart`: each has cores of its own, so that half a batch takes half as long.

    Two workers on one GPU are not apart: there the second prepares its batch while the first one's runs.
    """

    all: Sequence[Engine]
    apart: bool


class Lane(Protocol):
    """A resident model's batcher, as the workers see it."""

    @property
    def waits(self) -> bool:
        """Whether texts of this model wait."""

    @property
    def wanted_clock_mhz(self) -> int:
        """That the card should have for this model; 0: its own."""

    def feed(self) -> bool:
        """Gives ready workers the batch that is due, if one is; whether it did."""


class Work(NamedTuple):
    """A batch on its way to a worker. `done` is called on the event loop."""

    batch: Batch
    engines: Engines
    done: Callable[[Batch, Outcome], None]
    takes_s: float  # predicted, from when a worker begins it


class Workers:
    """One per replica. All but the threads' own work is called on the event loop."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._given: SimpleQueue[Work | None] = SimpleQueue()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None  # while they run
        self._ends_s: dict[Batch, float] = {}  # predicted, of the batches that workers have begun
        self._ahead: Work | None = None  # waits for who is free next
        self._apart = False  # of the engines that compute
        self._next_offer: asyncio.TimerHandle | None = None
        self._lanes: list[Lane] = []  # least recently served first
        self._threads = [
            threading.Thread(target=self._compute, args=(index,), name=f"engine-{index}")
            for index in range(count)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    @property
    def idle(self) -> int:
        return len(self._threads) - len(self._ends_s)

    def ready_in_s(self) -> float:
        """Seconds until a batch may be given: none while a worker idles, else until shortly before one is
        expected to be free; infinite while a batch waits for that one already. One device is kept busy by its
        second worker: nothing is given ahead there."""
        if self.idle:
            return 0.0
        return max(0.0, self.free_in_s() - AHEAD_S) if self._apart and self._ahead is None else math.inf

    @property
    def wanted_clock_mhz(self) -> int:
        """The highest that a model wants; all of them have the same operating point."""
        return max([lane.wanted_clock_mhz for lane in self._lanes], default=0)

    def others_wait(self, lane: Lane) -> int:
        """How many models beside this one have texts that wait."""
        return sum([other.waits for other in self._lanes if other is not lane])

    def share(self, lane: Lane) -> float:
        """The workers that a model has while others wait too."""
        return len(self._threads) / (1 + self.others_wait(lane))

    def left_s(self) -> float:
        """Seconds that the batches under way still need, together."""
        if not self._ends_s:
            return 0.0
        now_s = self._clock()
        begun_s = sum([max(0.0, ends_s - now_s) for ends_s in self._ends_s.values()])
        return begun_s if self._ahead is None else begun_s + self._ahead.takes_s

    def free_in_s(self) -> float:
        """Seconds until a worker is expected to be free, and no batch waits for it."""
        if self.idle:
            return 0.0
        now_s = self._clock()
        if self._ahead is None:
            return max(0.0, min(self._ends_s.values()) - now_s)
        first_s, *others_s = sorted([max(0.0, ends_s - now_s) for ends_s in self._ends_s.values()])
        return min([first_s + self._ahead.takes_s, *others_s])

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Each ends after its batch; nobody waits for it."""
        self._loop = None
        if self._next_offer is not None:
            self._next_offer.cancel()
        for _ in self._threads:
            self._given.put(None)

    def join(self, lane: Lane) -> None:
        """A model becomes resident: it is asked first."""
        self._lanes.insert(0, lane)

    def leave(self, lane: Lane) -> None:
        """It is no longer; what it has given is still computed, and told to nobody who has left."""
        self._lanes.remove(lane)

    def give(self, lane: Lane, work: Work) -> None:
        """Call while `ready_in_s` is 0. The lane's next turn comes after all others."""
        self._apart = work.engines.apart
        if self.idle:
            self._begins(work)
        else:
            self._ahead = work
        if self._lanes[-1] is not lane:
            self._lanes.remove(lane)
            self._lanes.append(lane)
        self._given.put(work)

    def offer(self) -> None:
        """Ready workers to the models in turn, a batch each, until nothing more is due; and once one is."""
        while not self.ready_in_s() and any(lane.waits and lane.feed() for lane in tuple(self._lanes)):
            pass
        self.offer_when_ready()

    def offer_when_ready(self) -> None:
        """The one timer for the next worker that is about to be free, if anything waits for it."""
        if self._next_offer is not None:
            self._next_offer.cancel()
            self._next_offer = None
        ready_in_s = self.ready_in_s()
        if self._loop is None or not 0.0 < ready_in_s < math.inf:
            return
        if any(lane.waits for lane in self._lanes):
            self._next_offer = self._loop.call_later(max(TIMER_S, ready_in_s), self.offer)

    def _begins(self, work: Work) -> None:
        self._ends_s[work.batch] = self._clock() + work.takes_s

    def _compute(self, index: int) -> None:
        while (work := self._given.get()) is not None:
            outcome: Outcome
            try:
                outcome = work.engines.all[index].compute([text.payload.job for text in work.batch])
            except Exception as error:  # the batch is lost, the worker is not
                outcome = error
            loop = self._loop
            if loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(self._take, work, outcome)
            del work, outcome  # else they live until the next batch comes

    def _take(self, work: Work, outcome: Outcome) -> None:
        """Whoever's turn it is gets the worker before this batch's requests are answered."""
        if self._loop is None:
            return
        del self._ends_s[work.batch]
        if self._ahead is not None:
            self._begins(self._ahead)  # by the worker that ended this one
            self._ahead = None
        self.offer()
        work.done(work.batch, outcome)


def parts(batch: Batch, idle: int, service_time: ServiceTime) -> list[Batch]:
    """The batch in at most `idle` parts that are computed at once, similar lengths together.

    Parts pay while the time that they save is more than the engine time that they cost, α each. With α = 1 ms
    and β = 160 µs a token 16 texts of 15 tokens take 39 ms together and 20 ms in two parts.
    """
    by_length = tuple(sorted(batch, key=lambda text: text.tokens))
    best, spent_s = [by_length], _longest_s([by_length], service_time)
    for count in range(2, min(idle, len(batch)) + 1):
        if count * service_time.alpha_s >= spent_s:
            break  # the starts alone take as long
        split = _by_tokens(by_length, count)
        split_s = _longest_s(split, service_time) + service_time.alpha_s * (count - 1)
        if split_s < spent_s:
            best, spent_s = split, split_s
    return best


def _longest_s(split: Sequence[Batch], service_time: ServiceTime) -> float:
    return max(service_time.batch_s(len(part) * part[-1].tokens) for part in split)


def _by_tokens(by_length: Batch, count: int) -> list[Batch]:
    """`count` slices of about the same tokens, each of at least one text."""
    share = sum(text.tokens for text in by_length) / count
    split: list[Batch] = []
    first, tokens = 0, 0
    for index, text in enumerate(by_length):
        tokens += text.tokens
        wanted = count - len(split)  # this slice included
        if wanted > 1 and (tokens >= share or len(by_length) - index - 1 == wanted - 1):
            split.append(by_length[first : index + 1])
            first, tokens = index + 1, 0
    return [*split, by_length[first:]]
