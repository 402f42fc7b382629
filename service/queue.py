"""The texts that wait for the engine, and when which of them leave together.

Pure: time is an argument. `poll` does what is due and returns when to ask again; `batcher` sleeps until
then. Whose texts they are is `dispatch`'s matter; who is next among tenants that of `flows`; who rides along
that of `company`.

A batch leaves when it is full (texts, or padded tokens = texts × longest), when a waiting text's slack
(what it is due for, less the predicted compute of the batch) is used up, or when a text has waited
`max_delay_s` for company. Texts of the class `interactive` go first; those of `batch` take places that
would stay empty. Nobody starves: inside a tenant's flow the text due first leads, flows take turns by what
they were served, and a text of `batch` that is overdue leads one batch of `BATCH_TURN`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple

from service.company import Company, CompanyLimits, Everyone
from service.flows import FairClass, Flow
from service.service_time import ServiceTime
from service.waiting import P, Share, WaitingText

MOST_TEXTS = 4096  # that a limit may be moved to: more would only cost memory
MOST_PADDED_TOKENS = 1_000_000
BATCH_TURN = 8  # while interactive texts wait, overdue ones of `batch` lead at most one batch of so many


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may grow to and how long a text waits for company."""

    max_texts: int
    max_padded_tokens: int  # a single longer text still rides, alone
    max_delay_s: float


class Poll(NamedTuple, Generic[P]):
    """What is due: texts that can't meet their deadline any more, and a batch; or else when to poll again."""

    expired: tuple[WaitingText[P], ...] = ()
    batch: tuple[WaitingText[P], ...] = ()
    wake_at_s: float | None = None  # None: nothing waits


class BatchQueue(Generic[P]):
    """The waiting texts of one replica; one owner, no locks."""

    def __init__(self) -> None:
        self.interactive: FairClass[P] = FairClass()
        self.batch: FairClass[P] = FairClass()
        self._no_deadline_before_s = math.inf  # of a waiting text: a bound, looked up anew when it is near
        self._added = 0
        self._led_by_interactive = 0  # batches, one after the other

    def __len__(self) -> int:
        return self.interactive.texts + self.batch.texts

    @property
    def tokens(self) -> int:
        """Of all waiting texts, without padding."""
        return self.interactive.tokens + self.batch.tokens

    def backlog_s(self, limits: BatchLimits, service_time: ServiceTime) -> float:
        """What the engine needs for the interactive texts, in full batches and without padding."""
        waiting = self.interactive
        batches = max(waiting.texts / limits.max_texts, waiting.tokens / limits.max_padded_tokens)
        return service_time.alpha_s * batches + service_time.beta_s_per_token * waiting.tokens

    def add(self, text: WaitingText[P]) -> None:
        self._added += 1
        text.order = self._added
        text.waits = True
        if text.deadline_s < self._no_deadline_before_s or not (self.interactive.texts or self.batch.texts):
            self._no_deadline_before_s = text.deadline_s
        self._class_of(text).add(text)

    def discard(self, texts: Iterable[WaitingText[P]]) -> None:
        """Drops those of the texts that still wait."""
        for text in texts:
            if text.waits:
                text.waits = False
                self._class_of(text).remove(text)

    def tokens_before(self, share: Share, tokens: int, due_s: float) -> float:
        """Waiting tokens that go before a new request of that many; those of company are not counted."""
        if not share.batch:
            return self.interactive.tokens_before(share, tokens, due_s)
        return self.interactive.tokens + self.batch.tokens_before(share, tokens, due_s)

    def poll(self, now_s: float, limits: BatchLimits, service_time: ServiceTime) -> Poll[P]:
        """Call when the engine is idle. A returned text has left the queue."""
        if not self.interactive.texts and not self.batch.texts:
            return Poll()
        expired = self._expired(now_s, service_time)
        led_by = self._leading(now_s, service_time)
        flow = led_by.next_flow()
        if flow is None:
            return Poll(expired)
        leader = flow.first()
        company = self._company(leader, flow, _limits(leader, now_s, limits, service_time))
        if limits.max_delay_s > 0.0 and len(self) < limits.max_texts and not company.token_bound:
            leave_at_s = self._leave_at_s(company.padded_tokens, limits, service_time)
            if leave_at_s > now_s:
                return Poll(expired, wake_at_s=leave_at_s)
        self._led_by_interactive = 0 if led_by is self.batch else self._led_by_interactive + 1
        return Poll(expired, tuple(company.leave()))

    def _company(
        self, leader: WaitingText[P], flow: Flow[P], limits: CompanyLimits
    ) -> Company[P] | Everyone[P]:
        # Nobody else waits; and more than fit are not listed at each poll of an overload.
        if len(flow.by_due) == len(self) <= limits.max_texts:
            everyone = Everyone(self._class_of(leader), flow)
            if everyone.fits(limits):
                return everyone
        company = Company(leader, flow, limits)
        company.invite(self.interactive)
        company.invite(self.batch)
        company.cut()
        return company

    def _class_of(self, text: WaitingText[P]) -> FairClass[P]:
        return self.batch if text.share.batch else self.interactive

    def _leading(self, now_s: float, service_time: ServiceTime) -> FairClass[P]:
        if not self.interactive.texts:
            return self.batch
        overdue = self.batch.first_due() if self._led_by_interactive >= BATCH_TURN - 1 else None
        if overdue is None or overdue.due_s - service_time.cautious_batch_s(overdue.tokens) > now_s:
            return self.interactive
        return self.batch

    def _expired(self, now_s: float, service_time: ServiceTime) -> tuple[WaitingText[P], ...]:
        """Those whose own compute no longer fits before their deadline."""
        bound_s = self._no_deadline_before_s
        if bound_s >= now_s + service_time.batch_s(self.tokens):
            return ()  # in time even if it had all the tokens that wait
        longest = max(self.interactive.longest(), self.batch.longest())
        if bound_s >= now_s + service_time.batch_s(longest):
            return ()
        waiting = list(self._waiting())
        expired = [text for text in waiting if now_s + service_time.batch_s(text.tokens) > text.deadline_s]
        expired.sort(key=lambda text: (text.deadline_s, text.order))
        self.discard(expired)
        self._no_deadline_before_s = min(
            (text.deadline_s for text in waiting if text.waits), default=math.inf
        )
        return tuple(expired)

    def _waiting(self) -> Iterator[WaitingText[P]]:
        for fair in (self.interactive, self.batch):
            for flow in fair.waiting():
                for _, _, text in flow.by_due:
                    yield text

    def _leave_at_s(self, padded_tokens: int, limits: BatchLimits, service_time: ServiceTime) -> float:
        """Call while fewer texts wait than a batch takes, and at least one."""
        first_due_s = min(text.due_s for text in self._waiting())
        longest_waiting_s = min(text.arrived_s for text in self._waiting())
        compute_s = service_time.cautious_batch_s(padded_tokens)
        return min(first_due_s - compute_s, longest_waiting_s + limits.max_delay_s)


def padded_tokens(batch: Iterable[WaitingText[P]]) -> int:
    """Tokens as computed: each text padded to the batch's longest."""
    lengths = [text.tokens for text in batch]
    return len(lengths) * max(lengths)


def _limits(
    leader: WaitingText[P], now_s: float, limits: BatchLimits, service_time: ServiceTime
) -> CompanyLimits:
    """Fewer tokens than the limit where company would make late who can be in time alone."""
    in_time = service_time.tokens_within(leader.due_s - now_s)
    most = min(limits.max_padded_tokens, in_time) if in_time >= leader.tokens else limits.max_padded_tokens
    return CompanyLimits.of(limits.max_texts, most, limits.max_padded_tokens, service_time)
