"""Requests to batches and back: every accepted request is resolved exactly once.

Pure: time is an argument, and outcomes are return values. `batcher` puts clock, engine thread and futures
around it. The texts of one request may ride in different batches; requests of all tasks ride together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from service.queue import BatchLimits, BatchQueue, WaitingText
from service.request import ComputedBatch, Request, TextJob
from service.service_time import ServiceTimeEstimate


class Outcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    EXPIRED = "expired"  # its deadline couldn't be met any more
    FAILED = "failed"  # a batch of it broke


@dataclass(frozen=True, slots=True)
class Place:
    """Text `index` of a request."""

    request: Request
    index: int

    @property
    def job(self) -> TextJob:
        return self.request.jobs[self.index]


Batch = tuple[WaitingText[Place], ...]
Resolved = list[tuple[Request, Outcome]]


@dataclass(frozen=True, slots=True)
class Step:
    """What `Dispatcher.step` found due: what ended, and a batch to compute or else when to ask again."""

    resolved: Resolved
    batch: Batch
    wake_at_s: float | None


class Dispatcher:
    """The open requests and their waiting texts; one owner, no locks."""

    def __init__(self, limits: BatchLimits, service_time: ServiceTimeEstimate) -> None:
        self.limits = limits  # moved by the operating point
        self.service_time = service_time
        self._queue: BatchQueue[Place] = BatchQueue()
        self._open: set[Request] = set()

    @property
    def waiting_texts(self) -> int:
        return len(self._queue)

    @property
    def waiting_tokens(self) -> int:
        return self._queue.tokens

    @property
    def open_requests(self) -> tuple[Request, ...]:
        return tuple(self._open)

    def submit(self, request: Request) -> None:
        """Queues the request's texts. It has at least one."""
        self._open.add(request)
        for index, job in enumerate(request.jobs):
            self._queue.add(
                WaitingText(
                    Place(request, index),
                    len(job.encoded),
                    request.arrived_s,
                    request.due_s,
                    request.deadline_s,
                )
            )

    def withdraw(self, request: Request) -> bool:
        """Drops a request whose client left: what waits of it is not computed. False if it had ended."""
        if request not in self._open:
            return False
        self._close(request)
        return True

    def step(self, now_s: float) -> Step:
        """Call while the engine is idle; its batch is to be computed, then handed to `complete` or `fail`."""
        poll = self._queue.poll(now_s, self.limits, self.service_time.current)
        resolved: Resolved = []
        for text in poll.expired:
            request = text.payload.request
            if self.withdraw(request):
                resolved.append((request, Outcome.EXPIRED))
        # A text that expired takes the others of its request along, also those that are in this batch.
        batch = tuple(text for text in poll.batch if text.payload.request in self._open)
        return Step(resolved, batch, now_s if poll.batch and not batch else poll.wake_at_s)

    def complete(self, batch: Batch, computed: ComputedBatch, joules: Sequence[float] | None) -> Resolved:
        """Hands out a batch's results; `joules` are the texts' shares, in order, or None when unknown."""
        self.service_time.observe(computed.padded_tokens, computed.compute_s)
        resolved: Resolved = []
        for position, text in enumerate(batch):
            request, index = text.payload.request, text.payload.index
            cost = request.cost
            cost.tokens += text.tokens
            cost.queue_s = max(cost.queue_s, computed.started_s - request.arrived_s)
            cost.compute_s = max(cost.compute_s, computed.compute_s)
            cost.batch_texts = max(cost.batch_texts, len(batch))
            cost.energy_j = (
                None if joules is None or cost.energy_j is None else cost.energy_j + joules[position]
            )
            request.results[index] = computed.results[position]
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
        self._open.discard(request)
        if request.unanswered:
            self._queue.discard(lambda place: place.request is request)
