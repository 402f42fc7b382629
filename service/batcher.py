"""Feeds the workers with one model's texts: asks the dispatcher what is due, gives it to who is idle, and
ends requests.

Owns the futures of open requests and the time. What leaves when is decided in `queue`; who is answered, and
when slack is short, in `dispatch`; the threads, and whose turn it is, are `workers`'. `inference` awaits
`answer`.

All of it runs in callbacks of the event loop: when texts have come (once for all that came in the same turn),
when a worker is done, and when the queue asked to be looked at again. There is no task that would have to be
woken for it, and no timer for each request: one watches the earliest deadline.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.clocks import CardClock
from service.dispatch import Batch, Dispatcher, Outcome, Resolved
from service.request import ComputedBatch, Request
from service.spans import Tracer
from service.statuses import Refusal, deadline_exceeded, internal, unavailable
from service.workers import Engines, Work, Workers, parts

log = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """Told of each computed batch; answers with the texts' joules."""

    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> Sequence[float] | None:
        """`tokens` of the batch's texts; the joules of each, in order, or None when the meter gives none."""
        ...


class Batcher:
    """One per resident model. `run` is its task; `answer` may be awaited by any number of handlers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        engines: Engines,
        workers: Workers,
        observer: BatchObserver,
        card_clock: CardClock,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dispatcher = dispatcher
        self._engines = engines
        self._workers = workers
        self._observer = observer
        self._card_clock = card_clock
        self._tracer = tracer
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._broken: asyncio.Future[None] | None = None
        self._futures: dict[Request, asyncio.Future[None]] = {}
        self._begun_mhz: dict[Batch, int] = {}  # the card's clock when a batch left
        self._feeding = False  # `_feed` is due in this turn of the loop
        self._next_look: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_s = math.inf

    def busy_s(self) -> float:
        """Seconds until a worker is expected to be free."""
        return self._workers.free_in_s()

    @property
    def waits(self) -> bool:
        return self.dispatcher.waiting_texts > 0

    @property
    def wanted_clock_mhz(self) -> int:
        return self.dispatcher.wanted_clock_mhz

    async def answer(self, request: Request) -> None:
        """Returns when `request.results` are complete; raises Refusal. Cancelling withdraws it."""
        future = asyncio.get_running_loop().create_future()
        self._futures[request] = future
        self.dispatcher.submit(request)
        if request.deadline_s < self._expiry_s:
            self._watch(request.deadline_s)
        self.retune()
        try:
            await future
        finally:
            del self._futures[request]
            self.dispatcher.withdraw(request)

    async def run(self) -> None:
        """Until cancelled; then the requests still open are refused."""
        self._loop = asyncio.get_running_loop()
        self._broken = self._loop.create_future()
        self._workers.join(self)
        try:
            self.retune()
            self._watch(min((r.deadline_s for r in self.dispatcher.open_requests), default=math.inf))
            await self._broken
        finally:
            self._loop = self._broken = None
            self._workers.leave(self)
            for timer in (self._next_look, self._expiry):
                if timer is not None:
                    timer.cancel()
            for request in self.dispatcher.open_requests:
                self.dispatcher.withdraw(request)
                self._end(request, unavailable("draining", "the server has stopped", 0.0))

    def retune(self) -> None:
        """What waits, or the operating point, has changed: it is looked at once in this turn of the loop."""
        if not self._feeding and self._loop is not None:
            self._feeding = True
            self._loop.call_soon(self._guarded, self._look)

    def _guarded(self, act: Callable[..., None], *arguments: object) -> None:
        """A callback that breaks ends the replica, through `run`: it must not stay up and hang."""
        try:
            act(*arguments)
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _look(self) -> None:
        """Gives every ready worker what is due for it, in turn with the other models."""
        self._feeding = False
        if self._workers.others_wait(self):
            self._workers.offer()
        while self.feed() and self.waits and not self._workers.ready_in_s():
            pass
        self._workers.offer_when_ready()

    def feed(self) -> bool:
        """Gives ready workers the batch that is due, if one is; whether it did."""
        try:
            return self._feed()
        except Exception as error:
            self._break(error)
            return False

    def _feed(self) -> bool:
        if self._loop is None:
            return False
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        dispatcher = self.dispatcher
        dispatcher.clock_mhz = self._card_clock.in_force_mhz
        dispatcher.workers = self._workers.share(self)
        now_s = self._clock()
        gave = False
        if not self._workers.ready_in_s():
            step = dispatcher.step(now_s, self._workers.left_s())
            self._resolve(step.resolved)
            if step.batch:
                self._give(step.batch)
                gave = True
                if not self._workers.idle:
                    dispatcher.feel(now_s, self._workers.left_s())
            elif step.wake_at_s is not None:
                wait_s = max(0.0, step.wake_at_s - now_s)
                self._next_look = self._loop.call_later(wait_s, self._guarded, self._look)
        else:
            dispatcher.feel(now_s, self._workers.left_s())
        self._card_clock.ask(self._workers.wanted_clock_mhz)
        return gave

    def _give(self, batch: Batch) -> None:
        """To one worker, or to who is free next, or in parts to all that would idle."""
        service_time = self.dispatcher.service_time.current
        idle = self._workers.idle
        alone = idle <= 1 or len(batch) == 1 or not self._engines.apart or self.waits
        for part in [batch] if alone else parts(batch, idle, service_time):
            padded = len(part) * max(text.tokens for text in part)
            self._begun_mhz[part] = self.dispatcher.clock_mhz
            work = Work(part, self._engines, self._done, service_time.batch_s(padded))
            self._workers.give(self, work)

    def _done(self, batch: Batch, outcome: ComputedBatch | Exception) -> None:
        self._guarded(self._take, batch, outcome)

    def _take(self, batch: Batch, outcome: ComputedBatch | Exception) -> None:
        """What a worker has done."""
        if self._loop is None:
            return
        begun_mhz = self._begun_mhz.pop(batch)
        if isinstance(outcome, Exception):
            log.error("a batch of %d texts failed", len(batch), exc_info=outcome)
            self._resolve(self.dispatcher.fail(batch))
        else:
            joules = self._observer.batch_computed(outcome, [text.tokens for text in batch])
            if self._tracer is not None:
                spans = {text.payload.request.span for text in batch} - {None}
                self._tracer.batch(spans, len(batch), outcome)
            self._resolve(self.dispatcher.complete(batch, outcome, joules, begun_mhz))
        self.retune()  # after those who were answered: nothing is given in it that could have been before

    def _watch(self, deadline_s: float) -> None:
        """One timer for all deadlines: the earliest."""
        if self._loop is None:
            return
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._expiry_s = deadline_s
        if deadline_s < math.inf:
            wait_s = max(0.0, deadline_s - self._clock())
            self._expiry = self._loop.call_later(wait_s, self._guarded, self._expire)

    def _expire(self) -> None:
        now_s = self._clock()
        open_requests = self.dispatcher.open_requests
        for request in open_requests:
            if request.deadline_s <= now_s:
                self.dispatcher.withdraw(request)
                self._end(request, late())
        self._watch(min((r.deadline_s for r in open_requests if r.deadline_s > now_s), default=math.inf))

    def _resolve(self, resolved: Resolved) -> None:
        for request, outcome in resolved:
            match outcome:
                case Outcome.ANSWERED:
                    self._end(request, None)
                case Outcome.EXPIRED:
                    self._end(
                        request, deadline_exceeded("the deadline can't be met any more: nothing was computed")
                    )
                case Outcome.FAILED:
                    self._end(request, internal("the model failed on this batch"))

    def _end(self, request: Request, refusal: Refusal | None) -> None:
        future = self._futures.get(request)
        if future is None or future.done():
            return  # its handler was cancelled a moment ago
        if refusal is None:
            future.set_result(None)
        else:
            future.set_exception(refusal)


def late() -> Refusal:
    """Its time ran out while it was computed or waited."""
    return deadline_exceeded("the deadline passed before the answer was there")
