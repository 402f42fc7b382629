"""The loop that feeds the engine: asks the dispatcher what is due, sleeps until then, computes on the
engine's thread.

Owns the futures of open requests, the engine thread and the time. What leaves when is decided in `queue`;
who is answered, and when slack is short, in `dispatch`. `inference` awaits `answer`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from service.clocks import CardClock
from service.dispatch import Batch, Dispatcher, Outcome, Resolved
from service.engine import Engine
from service.request import ComputedBatch, Request
from service.spans import Tracer
from service.statuses import Refusal, deadline_exceeded, internal, unavailable

log = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """Told of each computed batch; answers with the texts' joules."""

    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> Sequence[float] | None:
        """`tokens` of the batch's texts; the joules of each, in order, or None when the meter gives none."""
        ...


class Batcher:
    """One per replica. `run` is its task; `answer` may be awaited by any number of handlers."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        engine: Engine,
        observer: BatchObserver,
        card_clock: CardClock,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dispatcher = dispatcher
        self._card_clock = card_clock
        self._engine = engine
        self._observer = observer
        self._tracer = tracer
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._futures: dict[Request, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._busy_until_s = 0.0

    def busy_s(self) -> float:
        """Seconds the batch in the engine is expected to need still."""
        return max(0.0, self._busy_until_s - self._clock())

    async def answer(self, request: Request) -> None:
        """Returns when `request.results` are complete; raises Refusal. Cancelling withdraws it."""
        future = asyncio.get_running_loop().create_future()
        self._futures[request] = future
        self.dispatcher.submit(request)
        self._feel()
        self._changed.set()
        try:
            await future
        finally:
            del self._futures[request]
            self.dispatcher.withdraw(request)

    async def run(self) -> None:
        """Until cancelled; then the requests still open are refused."""
        try:
            while True:
                self._changed.clear()
                self.dispatcher.clock_mhz = self._card_clock.in_force_mhz
                step = self.dispatcher.step(self._clock())
                self._card_clock.ask(self.dispatcher.wanted_clock_mhz)
                self._resolve(step.resolved)
                if step.batch:
                    await self._compute(step.batch)
                else:
                    await self._sleep(step.wake_at_s)
        finally:
            for request in self.dispatcher.open_requests:
                self.dispatcher.withdraw(request)
                self._end(request, unavailable("draining", "the server has stopped", 0.0))
            self._thread.shutdown(wait=False)

    def retune(self) -> None:
        """The operating point has moved: what waits is looked at anew."""
        self._feel()
        self._changed.set()

    def _feel(self) -> None:
        self.dispatcher.clock_mhz = self._card_clock.in_force_mhz
        self.dispatcher.feel(self._clock(), self.busy_s())
        self._card_clock.ask(self.dispatcher.wanted_clock_mhz)

    async def _sleep(self, until_s: float | None) -> None:
        if until_s is None:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, until_s - self._clock())):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _compute(self, batch: Batch) -> None:
        service_time = self.dispatcher.service_time.current
        padded = len(batch) * max(text.tokens for text in batch)
        self._busy_until_s = self._clock() + service_time.batch_s(padded)
        self._feel()
        jobs = [text.payload.job for text in batch]
        try:
            computed = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._engine.compute, jobs
            )
        except Exception:  # the batch is lost, the server is not
            log.exception("a batch of %d texts failed", len(batch))
            self._resolve(self.dispatcher.fail(batch))
            return
        finally:
            self._busy_until_s = 0.0
            self.dispatcher.clock_mhz = self._card_clock.in_force_mhz
        joules = self._observer.batch_computed(computed, [text.tokens for text in batch])
        if self._tracer is not None:
            spans = {text.payload.request.span for text in batch} - {None}
            self._tracer.batch(spans, len(batch), computed)
        self._resolve(self.dispatcher.complete(batch, computed, joules))

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
