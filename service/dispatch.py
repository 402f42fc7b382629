"""Requests to batches and back: every accepted request is resolved exactly once.

Pure: time is an argument, and outcomes are return values. `batcher` puts clock, engine thread and futures
around it. The texts of one request may ride in different batches; requests of all tasks ride together.

While the slack of interactive texts is short the reflex is raised (`minwatt.v1.reflex`): batches leave
without delay, and another clock of the card is wanted. Setting it is `clocks`' matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from minwatt.v1.reflex import Reflex, ReflexRule
from service.queue import BatchLimits, BatchQueue
from service.request import ComputedBatch, Request, TextJob
from service.service_time import ServiceTimeEstimate, ServiceTimes
from service.waiting import Share, WaitingText


class Outcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    EXPIRED = "expired"  # its deadline couldn't be met any more
    FAILED = "failed"  # a batch of it broke


class Place(NamedTuple):
    """Text `text_index` of a request."""

    request: Request
    text_index: int

    @property
    def job(self) -> TextJob:
        return self.request.jobs[self.text_index]


Batch = tuple[WaitingText[Place], ...]
Resolved = list[tuple[Request, Outcome]]


class Step(NamedTuple):
    """What `Dispatcher.step` found due: what ended, and a batch to compute or else when to ask again."""

    resolved: Resolved
    batch: Batch
    wake_at_s: float | None


@dataclass(frozen=True, slots=True)
class Clocks:
    """The operating point's, of the card. 0 in `set_mhz`: it is left alone; in `reflex_mhz`: never raised."""

    set_mhz: int = 0
    reflex_mhz: int = 0


class Dispatcher:
    """The open requests and their waiting texts; one owner, no locks."""

    def __init__(self, limits: BatchLimits, service_time: ServiceTimeEstimate, slo_s: float) -> None:
        self.limits = limits  # these three are moved by the operating point
        self.slo_s = slo_s
        self.clocks = Clocks()
        self.workers = 1.0  # that compute its batches at once: a fraction of those it shares
        self.clock_mhz = 0  # that the card is locked to now; told by whoever sets it
        self.reflex_s_total = 0.0  # time in which the reflex was raised
        self._service_times = ServiceTimes(service_time)
        self._queue: BatchQueue[Place] = BatchQueue()
        self._open: dict[Request, list[WaitingText[Place]]] = {}
        self._reflex = Reflex()
        self._felt_s = 0.0
        self._calm_clock_mhz = 0  # that the card had when the reflex was last not raised

    @property
    def service_time(self) -> ServiceTimeEstimate:
        """At the clock in force."""
        return self._service_times.at(self.clock_mhz)

    def warmed_up(self, service_time: ServiceTimeEstimate) -> None:
        """Begins with what the warm-up learned, at the card's own clock."""
        self._service_times = ServiceTimes(service_time)

    @property
    def raised(self) -> bool:
        """Whether slack is short."""
        return self._reflex.raised

    def raise_above(self, backlog_s: float) -> None:
        """Slack is short above it; 0: above the reflex' own share of the SLO."""
        self._reflex.rule = ReflexRule.raised_above(backlog_s, self.slo_s)

    @property
    def wanted_clock_mhz(self) -> int:
        """That the card should have now; 0: its own."""
        if self.clocks.set_mhz and self.raised:
            return max(self.clocks.set_mhz, self.clocks.reflex_mhz)
        return self.clocks.set_mhz

    @property
    def waiting_texts(self) -> int:
        return len(self._queue)

    @property
    def waiting_batch_class_texts(self) -> int:
        return self._queue.batch.texts

    @property
    def waiting_tokens(self) -> int:
        return self._queue.tokens

    def wait_s(self, share: Share, tokens: float, due_s: float, arriving_tokens: float) -> float:
        """Predicted, until a new request of so many tokens, due then, is begun.

        Were nothing to arrive after it. `arriving_tokens` are at the tokenizer still.
        """
        waiting = len(self._queue)
        before = arriving_tokens
        if waiting:
            before += self._queue.tokens_before(share, round(tokens), due_s)
        if not before:
            return 0.0
        service_time, limits = self.service_time.current, self.limits
        text_tokens = max(1.0, self._queue.tokens / waiting) if waiting else before
        batches = max(before / text_tokens / limits.max_texts, before / limits.max_padded_tokens)
        return (service_time.alpha_s * batches + service_time.beta_s_per_token * before) / self.workers

    @property
    def open_requests(self) -> tuple[Request, ...]:
        return tuple(self._open)

    def submit(self, request: Request) -> None:
        """Queues the request's texts. It has at least one."""
        self._open[request] = texts = [
            WaitingText(
                Place(request, index),
                len(job.encoded.ids),
                request.arrived_s,
                request.due_s,
                request.deadline_s,
                request.share,
            )
            for index, job in enumerate(request.jobs)
        ]
        for text in texts:
            self._queue.add(text)

    def withdraw(self, request: Request) -> bool:
        """Drops a request whose client left: what waits of it is not computed. False if it had ended."""
        if request not in self._open:
            return False
        self._close(request)
        return True

    def feel(self, now_s: float, engine_left_s: float) -> None:
        """Raises or lowers the reflex. Call when texts arrive and when a batch leaves.

        `engine_left_s`: what the batches in the engine still need, together.
        """
        if self.raised:
            self.reflex_s_total += now_s - self._felt_s
        else:
            self._calm_clock_mhz = self.clock_mhz
        self._felt_s = now_s
        calm = self._service_times.at(self._calm_clock_mhz).current
        backlog_s = (engine_left_s + self._queue.backlog_s(self.limits, calm)) / self.workers
        self._reflex.update(now_s, backlog_s, self.slo_s)

    def step(self, now_s: float, engine_left_s: float = 0.0) -> Step:
        """Call while a worker is idle; its batch is to be computed, then handed to `complete` or `fail`."""
        self.feel(now_s, engine_left_s)
        limits = replace(self.limits, max_delay_s=0.0) if self.raised else self.limits
        poll = self._queue.poll(now_s, limits, self.service_time.current)
        resolved: Resolved = []
        for text in poll.expired:
            request = text.payload.request
            if self.withdraw(request):
                resolved.append((request, Outcome.EXPIRED))
        # A text that expired takes the others of its request along, also those that are in this batch.
        batch = tuple(text for text in poll.batch if text.payload.request in self._open)
        wake_at_s = now_s if poll.batch and not batch else poll.wake_at_s
        if self.raised and wake_at_s is None:
            wake_at_s = self._reflex.back_from_s  # nothing else would lower it
        return Step(resolved, batch, wake_at_s)

    def complete(
        self, batch: Batch, computed: ComputedBatch, joules: Sequence[float] | None, begun_mhz: int
    ) -> Resolved:
        """Hands out a batch's results; `joules` are the texts' shares, in order, or None when unknown.

        `begun_mhz`: the card's clock when the batch left.
        """
        if self.clock_mhz == begun_mhz:  # else it was computed at both
            self.service_time.observe(computed.padded_tokens, computed.compute_s)
        resolved: Resolved = []
        shares: Sequence[float | None] = [None] * len(batch) if joules is None else joules
        for text, result, energy_j in zip(batch, computed.results, shares, strict=True):
            request, index = text.payload
            request.cost.add_text(
                text.tokens, computed.started_s - request.arrived_s, computed.compute_s, len(batch), energy_j
            )
            request.results[index] = result
            request.unanswered -= 1
            if request.unanswered == 0 and request in self._open:
                self._close(request)
                resolved.append((request, Outcome.ANSWERED))
        return resolved

    def fail(self, batch: Batch) -> Resolved:
        """Ends the requests of a batch that could not be computed."""
        requests = dict.fromkeys(text.payload.request for text in batch)
        return [(request, Outcome.FAILED) for request in requests if self.withdraw(request)]

    def _close(self, request: Request) -> None:
        texts = self._open.pop(request)
        if request.unanswered:
            self._queue.discard(texts)
