"""Who rides along with the text that leads a batch.

A batch grows to the neighbour in length that wastes less. A text joins while the compute its padding wastes
is less than what a batch of its own would cost: α. With α = 1 ms and β = 20 µs a token that is 50 tokens.
Then the batch is cut where two would cost less: texts that are not worth a batch each may be together.

Of several flows, those that are furthest behind go first among equal lengths, and none rides further ahead of
the others than a full batch. Places that would then stay empty are not wasted: others take them, for nothing,
until the batch is worth its start (`ESTABLISHED`). Pure; called by `queue`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, nsmallest
from typing import Generic

from service.flows import FairClass, Flow, LengthEntry
from service.service_time import ServiceTime
from service.waiting import P, WaitingText

# Of α/β tokens: then four fifths of a batch's time go to its tokens, and a larger one gains little.
ESTABLISHED = 4.0
MAX_FLOWS = 32  # that are looked at for company: those furthest behind

# Batches whose texts are looked at, those that are due first: with more waiting, lengths fit well enough.
WINDOW = 4

_Side = tuple[int, float, float, int, "Rider[P]"]  # distance by length, tag, due, order of arrival


class Rider(Generic[P]):
    """A flow while a batch is being made up: its texts `by_length[low + 1:high]` ride."""

    __slots__ = ("by_length", "flow", "free", "high", "low", "tag", "until")

    def __init__(self, flow: Flow[P], by_length: list[LengthEntry[P]], low: int, high: int) -> None:
        self.flow = flow
        self.by_length = by_length
        self.low = low
        self.high = high
        self.tag = flow.tag
        self.until = math.inf  # a tag beyond is too far ahead
        self.free: set[int] = set()  # texts that ride for nothing, by order of arrival

    @property
    def has_more(self) -> bool:
        """For this batch."""
        return self.low >= 0 or self.high < len(self.by_length)

    @property
    def stays_behind(self) -> bool:
        """Some of the flow's texts don't ride."""
        return len(self.flow.by_due) > self.high - self.low - 1

    def riding(self) -> list[WaitingText[P]]:
        return [entry[3] for entry in self.by_length[self.low + 1 : self.high]]

    def charge(self) -> None:
        """What rides to the flow, but for what rides for nothing."""
        tokens = sum(text.tokens for text in self.riding() if text.order not in self.free)
        self.flow.tag += tokens / self.flow.weight

    def keep(self, above: int, up_to: int) -> None:
        """Leaves texts of other lengths behind."""
        while self.low + 1 < self.high and self.by_length[self.low + 1][0] <= above:
            self.low += 1
        while self.low + 1 < self.high and self.by_length[self.high - 1][0] > up_to:
            self.high -= 1


@dataclass(frozen=True, slots=True)
class CompanyLimits:
    """Of one batch."""

    max_texts: int
    max_padded_tokens: float
    worth_padding_tokens: float
    lead_tokens: float  # that a flow may be ahead of the one furthest behind, at weight 1

    @classmethod
    def of(
        cls, max_texts: int, max_padded_tokens: float, lead_tokens: float, time: ServiceTime
    ) -> CompanyLimits:
        return cls(max_texts, max_padded_tokens, time.worth_padding_tokens, lead_tokens)


class Everyone(Generic[P]):
    """All texts that wait, in one flow. If they fit, `Company` comes to the same, in ten times the time."""

    __slots__ = ("_fair", "_flow", "_texts", "padded_tokens")

    token_bound = False  # nobody is left outside

    def __init__(self, fair: FairClass[P], flow: Flow[P]) -> None:
        self._fair = fair
        self._flow = flow
        self._texts = [entry[2] for entry in flow.by_due]
        self._texts.sort(key=_by_length)
        self.padded_tokens = len(self._texts) * self._texts[-1].tokens

    def fits(self, limits: CompanyLimits) -> bool:
        """A text alone always does. All the padding together is worth less than another batch's start: so is
        each text's own, and what any cut would save."""
        return len(self._texts) == 1 or (
            len(self._texts) <= limits.max_texts
            and self.padded_tokens <= limits.max_padded_tokens
            and self.padded_tokens - self._flow.tokens <= limits.worth_padding_tokens
        )

    def leave(self) -> list[WaitingText[P]]:
        """Shortest first. There is nobody to charge it against."""
        self._fair.clear()
        for text in self._texts:
            text.waits = False
        return self._texts


class Company(Generic[P]):
    """A batch that grows around `leader`, who waits in `flow`."""

    def __init__(self, leader: WaitingText[P], flow: Flow[P], limits: CompanyLimits) -> None:
        self._limits = limits
        self._leader = leader
        self._leaders_flow = flow
        self._riders: list[tuple[FairClass[P], Rider[P]]] = []
        self.size = 1
        self.longest = leader.tokens
        self.token_bound = False  # another text would have been of use, and did not fit
        self._held_back = False  # someone who goes first still waits outside

    @property
    def padded_tokens(self) -> int:
        return self.size * self.longest

    def invite(self, fair: FairClass[P]) -> None:
        """Texts of a class take places, first the flows furthest behind. Call for the first class first."""
        if not fair.texts:
            return
        flows = fair.waiting()
        others = len(flows) > MAX_FLOWS
        if others:
            flows = nsmallest(MAX_FLOWS, flows, key=lambda flow: (flow.tag, flow.by_due[0][0]))
        looked_at = max(WINDOW // max(1, len(flows)), 1) * self._limits.max_texts
        riders = [self._rider(flow, looked_at) for flow in flows]
        self._riders += [(fair, rider) for rider in riders]
        established = ESTABLISHED * self._limits.worth_padding_tokens
        bound = min(self._limits.max_padded_tokens, established if self._held_back else math.inf)
        while self.size < self._limits.max_texts and (live := [r for r in riders if r.has_more]):
            if len(live) > 1:
                floor = min(rider.tag for rider in live)
                for rider in live:
                    rider.until = floor + self._limits.lead_tokens / rider.flow.weight
            else:
                live[0].until = math.inf
            if not self._grow(live, bound, charged=True):
                ahead = [rider for rider in live if rider.tag > rider.until]
                if ahead:
                    self._grow(ahead, min(bound, established), charged=False)
                break
        self._held_back = self._held_back or others or any(rider.stays_behind for rider in riders)

    def cut(self) -> None:
        """Keeps the leader's part where two batches would save more padding than another one costs.

        Eight texts of 10 tokens beside eight of 16 save 48 by a batch of their own; each wastes only 6.
        """
        if self.size == 1:
            return
        lengths = sorted(text.tokens for _, rider in self._riders for text in rider.riding())
        while len(lengths) > 1:
            longest = lengths[-1]
            saved, size = max(
                ((size * (longest - lengths[size - 1])), size) for size in range(1, len(lengths))
            )
            if saved <= self._limits.worth_padding_tokens:
                break
            above = lengths[size - 1]
            shorter = self._leader.tokens <= above
            for _, rider in self._riders:
                rider.keep(0, above) if shorter else rider.keep(above, longest)
            lengths = lengths[:size] if shorter else lengths[size:]
        self.size, self.longest = len(lengths), lengths[-1]
        self._keep_places_for_the_first_class()

    def _keep_places_for_the_first_class(self) -> None:
        """Who was cut off goes before those who only took empty places, once the batch is worth its start."""
        first = self._riders[0][0]
        others = [rider for fair, rider in self._riders if fair is not first and rider.riding()]
        behind = any(rider.stays_behind for fair, rider in self._riders if fair is first)
        leads = all(rider.flow is not self._leaders_flow for rider in others)
        if (
            others
            and behind
            and leads
            and self.padded_tokens > ESTABLISHED * self._limits.worth_padding_tokens
        ):
            for rider in others:
                rider.keep(self.longest, self.longest)
            lengths = [text.tokens for _, rider in self._riders for text in rider.riding()]
            self.size, self.longest = len(lengths), max(lengths)

    def leave(self) -> list[WaitingText[P]]:
        """Takes the batch out of its flows, shortest first, and charges it to them."""
        texts: list[WaitingText[P]] = []
        for fair, rider in self._riders:
            riding = rider.riding()
            rider.charge()
            fair.take(rider.flow, riding)
            texts += riding
        for fair in {id(fair): fair for fair, _ in self._riders}.values():
            fair.settle()
        texts.sort(key=_by_length)
        for text in texts:
            text.waits = False
        return texts

    def _rider(self, flow: Flow[P], looked_at: int) -> Rider[P]:
        by_length = flow.earliest_by_length(looked_at)
        leader = self._leader
        if flow is self._leaders_flow:
            place = bisect_left(by_length, (leader.tokens, leader.due_s, leader.order))
            rider = Rider(flow, by_length, place - 1, place + 1)
            rider.tag += leader.tokens / flow.weight
            return rider
        place = bisect_left(by_length, (self.longest,))
        return Rider(flow, by_length, place - 1, place)

    def _grow(self, riders: list[Rider[P]], max_tokens: float, *, charged: bool) -> bool:
        """Whether anyone joined."""
        if not charged:
            for rider in riders:
                rider.until = math.inf
        shorter: list[_Side[P]] = []
        longer: list[_Side[P]] = []
        for rider in riders:
            if rider.tag <= rider.until:
                _offer_shorter(shorter, rider)
                _offer_longer(longer, rider)
        heapify(shorter)
        heapify(longer)
        limits = self._limits
        worth = limits.worth_padding_tokens
        before, cut = self.size, False
        while self.size < limits.max_texts:
            _drop_ahead(shorter)
            _drop_ahead(longer)
            size, longest = self.size, self.longest
            down_waste = longest + shorter[0][0] if shorter else math.inf
            up = max(longest, longer[0][0]) if longer else longest
            up_waste = size * (up - longest) + (up - longer[0][0]) if longer else math.inf
            down_useful, up_useful = bool(shorter) and down_waste <= worth, bool(longer) and up_waste <= worth
            down = down_useful and (size + 1) * longest <= max_tokens
            upward = up_useful and (size + 1) * up <= max_tokens
            cut = down < down_useful or upward < up_useful
            if not down and not upward:
                break
            take_shorter = down and (
                not upward or (down_waste, shorter[0][1:4]) <= (up_waste, longer[0][1:4])
            )
            side = shorter if take_shorter else longer
            rider = heappop(side)[4]
            if take_shorter:
                tokens = rider.by_length[rider.low][0]
                rider.low -= 1
            else:
                tokens = rider.by_length[rider.high][0]
                self.longest = up
                rider.high += 1
            self.size += 1
            if charged:
                rider.tag += tokens / rider.flow.weight
            else:
                rider.free.add(rider.by_length[rider.low + 1 if take_shorter else rider.high - 1][2])
            if take_shorter:
                _offer_shorter(shorter, rider, push=True)
            else:
                _offer_longer(longer, rider, push=True)
        self.token_bound = self.token_bound or (cut and max_tokens >= limits.max_padded_tokens)
        return self.size > before


def _by_length(text: WaitingText[P]) -> tuple[int, float, int]:
    return text.tokens, text.due_s, text.order


def _offer_shorter(side: list[_Side[P]], rider: Rider[P], *, push: bool = False) -> None:
    if rider.low >= 0:
        tokens, due_s, order, _ = rider.by_length[rider.low]
        entry = (-tokens, rider.tag, due_s, order, rider)
        heappush(side, entry) if push else side.append(entry)


def _offer_longer(side: list[_Side[P]], rider: Rider[P], *, push: bool = False) -> None:
    if rider.high < len(rider.by_length):
        tokens, due_s, order, _ = rider.by_length[rider.high]
        entry = (tokens, rider.tag, due_s, order, rider)
        heappush(side, entry) if push else side.append(entry)


def _drop_ahead(side: list[_Side[P]]) -> None:
    """Whoever has come too far ahead since it was offered."""
    while side and side[0][4].tag > side[0][4].until:
        heappop(side)
