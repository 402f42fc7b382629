"""The texts that wait for the engine, and when which of them leave together.

Pure: time is an argument. `poll` does what is due and returns when to ask again; `batcher` sleeps until
then. Whose texts they are is `dispatch`'s matter.

A batch leaves when it is full (texts, or padded tokens = texts × longest), when a waiting text's slack
(what it is due for, less the predicted compute of the batch) is used up, or when a text has waited
`max_delay_s` for company. The text that is due first always rides; company is chosen by length. As nothing
is due later than its arrival plus the SLO, who waits longest becomes due first: nobody starves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.service_time import ServiceTime

P = TypeVar("P")


@dataclass(frozen=True, slots=True, eq=False)
class WaitingText(Generic[P]):
    """One text in the queue. Times are of the caller's monotonic clock."""

    payload: P
    tokens: int  # special tokens included, without padding
    arrived_s: float
    due_s: float  # when its compute should have ended: a little before its deadline or its SLO
    deadline_s: float  # after it the answer is worth nothing; infinity without a deadline


MOST_TEXTS = 4096  # that a limit may be moved to: more would only cost memory
MOST_PADDED_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may grow to and how long a text waits for company."""

    max_texts: int
    max_padded_tokens: int  # a single longer text still rides, alone
    max_delay_s: float


@dataclass(frozen=True, slots=True)
class Poll(Generic[P]):
    """What is due: texts that can't meet their deadline any more, and a batch; or else when to poll again."""

    expired: tuple[WaitingText[P], ...] = ()
    batch: tuple[WaitingText[P], ...] = ()
    wake_at_s: float | None = None  # None: nothing waits


class BatchQueue(Generic[P]):
    """The waiting texts of one replica; one owner, no locks."""

    def __init__(self) -> None:
        self._waiting: list[WaitingText[P]] = []
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """Of all waiting texts, without padding."""
        return self._tokens

    def backlog_s(self, limits: BatchLimits, service_time: ServiceTime) -> float:
        """What the engine needs for all that waits, in full batches and without padding."""
        batches = max(len(self) / limits.max_texts, self._tokens / limits.max_padded_tokens)
        return service_time.alpha_s * batches + service_time.beta_s_per_token * self._tokens

    def add(self, text: WaitingText[P]) -> None:
        self._waiting.append(text)
        self._tokens += text.tokens

    def discard(self, gone: Callable[[P], bool]) -> int:
        """Drops the texts whose payload is `gone`; how many those were."""
        before = len(self._waiting)
        self._keep([text for text in self._waiting if not gone(text.payload)])
        return before - len(self._waiting)

    def poll(self, now_s: float, limits: BatchLimits, service_time: ServiceTime) -> Poll[P]:
        """Call when the engine is idle. A returned text has left the queue."""
        expired = tuple(t for t in self._waiting if now_s + service_time.batch_s(t.tokens) > t.deadline_s)
        if expired:
            dead = set(map(id, expired))
            self._keep([text for text in self._waiting if id(text) not in dead])
        if not self._waiting:
            return Poll(expired)
        batch, full = _company(self._waiting, now_s, limits, service_time)
        leave_at_s = now_s if full else self._leave_at_s(batch, limits, service_time)
        if leave_at_s > now_s:
            return Poll(expired, wake_at_s=leave_at_s)
        gone = set(map(id, batch))
        self._keep([text for text in self._waiting if id(text) not in gone])
        return Poll(expired, tuple(batch))

    def _leave_at_s(
        self, batch: list[WaitingText[P]], limits: BatchLimits, service_time: ServiceTime
    ) -> float:
        compute_s = service_time.cautious_batch_s(padded_tokens(batch))
        slack_ends_s = min(text.due_s for text in self._waiting) - compute_s
        patience_ends_s = min(text.arrived_s for text in self._waiting) + limits.max_delay_s
        return min(slack_ends_s, patience_ends_s)

    def _keep(self, texts: list[WaitingText[P]]) -> None:
        self._waiting = texts
        self._tokens = sum(text.tokens for text in texts)


def padded_tokens(batch: list[WaitingText[P]]) -> int:
    """Tokens as computed: each text padded to the batch's longest."""
    return len(batch) * max(text.tokens for text in batch)


def _company(
    waiting: list[WaitingText[P]], now_s: float, limits: BatchLimits, service_time: ServiceTime
) -> tuple[list[WaitingText[P]], bool]:
    """The batch around the text that is due first, and whether it is full.

    Grows to the neighbour in length that wastes less. A text joins while the compute its padding wastes is
    less than what a batch of its own would cost: α. With α = 1 ms and β = 20 µs a token that is 50 tokens.
    Then the batch is cut where two would cost less: texts that are not worth a batch each may be together.
    """
    if len(waiting) == 1:
        return waiting, limits.max_texts == 1
    first = min(waiting, key=lambda text: (text.due_s, text.arrived_s))
    by_length = sorted(waiting, key=lambda text: (text.tokens, text.due_s, text.arrived_s))
    low = bisect_left(by_length, first.tokens, key=lambda text: text.tokens)
    position = low = next(i for i in range(low, len(by_length)) if by_length[i] is first)
    high = low + 1  # the batch is by_length[low:high]
    max_tokens = _max_padded_tokens(first, now_s, limits, service_time)
    token_bound = False
    while high - low < min(limits.max_texts, len(by_length)):
        size, longest = high - low, by_length[high - 1].tokens
        choices = []  # (wasted tokens, padded tokens, low, high)
        if low > 0:
            choices.append((longest - by_length[low - 1].tokens, (size + 1) * longest, low - 1, high))
        if high < len(by_length):
            longer = by_length[high].tokens
            choices.append((size * (longer - longest), (size + 1) * longer, low, high + 1))
        useful = [choice for choice in choices if choice[0] <= service_time.worth_padding_tokens]
        fitting = [choice for choice in useful if choice[1] <= max_tokens]
        token_bound = len(fitting) < len(useful)
        if not fitting:
            break
        _, _, low, high = min(fitting, key=lambda choice: choice[0])
    low, high = _cut(by_length, low, high, position, service_time.worth_padding_tokens)
    return by_length[low:high], len(waiting) >= limits.max_texts or token_bound


def _cut(
    by_length: list[WaitingText[P]], low: int, high: int, position: int, worth_tokens: float
) -> tuple[int, int]:
    """The slice around `position` that is left when cuts that save more than `worth_tokens` are made.

    Eight texts of 10 tokens beside eight of 16 save 48 by a batch of their own, though each wastes only 6.
    """
    while high - low > 1:
        longest = by_length[high - 1].tokens
        saved_tokens, cut = max(
            ((cut - low) * (longest - by_length[cut - 1].tokens), cut) for cut in range(low + 1, high)
        )
        if saved_tokens <= worth_tokens:
            break
        low, high = (cut, high) if position >= cut else (low, cut)
    return low, high


def _max_padded_tokens(
    first: WaitingText[P], now_s: float, limits: BatchLimits, service_time: ServiceTime
) -> float:
    """The limit; less where company would make late who can be in time alone."""
    in_time = service_time.tokens_within(first.due_s - now_s)
    return min(limits.max_padded_tokens, in_time) if in_time >= first.tokens else limits.max_padded_tokens
