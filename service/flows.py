"""The waiting texts of one priority class, shared fairly between tenants.

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996): a flow's tag is the
tokens it was served, over its weight; the flow of the lowest tag is next, and one that begins to wait anew
starts where the class has come to, so that idleness earns no credit. Served are batches, not packets: company
is chosen by length, so a flow may run ahead of the last by one full batch. Sheng et al. ("Fairness in Serving
Large Language Models", OSDI 2024) bound the same for token counters: of two flows that wait throughout,
tokens over weight differ by no more than a batch and a text of each.

Inside a flow the text that is due first is next. Pure; owned by `queue`, read by `company`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Generic

from service.waiting import Earliest, P, Share, WaitingText

LengthEntry = tuple[int, float, int, WaitingText[P]]  # tokens, due, order of arrival


class Flow(Generic[P]):
    """One tenant's texts of the class."""

    __slots__ = ("by_due", "by_length", "latest_due_s", "tag", "tokens", "weight")

    def __init__(self, tag: float) -> None:
        self.tag = tag
        self.weight = 1.0
        self.tokens = 0
        self.latest_due_s = 0.0  # of those added since it was last empty
        self.by_length: list[LengthEntry[P]] = []
        self.by_due: Earliest[P] = Earliest()

    def first(self) -> WaitingText[P]:
        """Due first; there must be one."""
        text = self.by_due.first()
        assert text is not None  # noqa: S101 - who holds a flow's texts and its heap apart has a bug
        return text

    def place_of(self, text: WaitingText[P]) -> int:
        """In `by_length`."""
        return bisect_left(self.by_length, (text.tokens, text.due_s, text.order, text))

    def tokens_due_by(self, due_s: float) -> int:
        if due_s >= self.latest_due_s:
            return self.tokens
        return sum(entry[0] for entry in self.by_length if entry[1] <= due_s)


class FairClass(Generic[P]):
    """The class's flows. A flow that is empty is kept while its tag is still ahead."""

    def __init__(self) -> None:
        self._flows: dict[str, Flow[P]] = {}
        self._virtual = 0.0  # where the class has come to: the lowest tag of those that wait
        self.texts = 0
        self.tokens = 0

    def waiting(self) -> list[Flow[P]]:
        return [flow for flow in self._flows.values() if flow.by_length]

    def next_flow(self) -> Flow[P] | None:
        """Of the lowest tag; of equal ones that whose text is due first."""
        flows = self.waiting()
        return min(flows, key=lambda flow: (flow.tag, flow.first().due_s)) if len(flows) > 1 else _only(flows)

    def first_due(self) -> WaitingText[P] | None:
        """Of all tenants."""
        texts = (flow.first() for flow in self._flows.values() if flow.by_length)
        return min(texts, key=lambda text: text.due_s, default=None)

    def longest(self) -> int:
        """Tokens of the longest text; 0 if none waits."""
        return max((flow.by_length[-1][0] for flow in self._flows.values() if flow.by_length), default=0)

    def add(self, text: WaitingText[P]) -> None:
        share = text.share
        flow = self._flows.get(share.tenant)
        if flow is None:
            flow = self._flows[share.tenant] = Flow(self._virtual)
        if not flow.by_length:
            flow.tag = max(flow.tag, self._virtual)
            flow.latest_due_s = text.due_s
        flow.weight = share.weight
        flow.latest_due_s = max(flow.latest_due_s, text.due_s)
        insort(flow.by_length, (text.tokens, text.due_s, text.order, text))
        flow.by_due.push(text.due_s, text)
        flow.tokens += text.tokens
        self.tokens += text.tokens
        self.texts += 1

    def remove(self, text: WaitingText[P]) -> None:
        """One that leaves unserved."""
        flow = self._flows[text.share.tenant]
        place = flow.place_of(text)
        self.take(flow, place, place + 1)
        self.settle()

    def take(self, flow: Flow[P], start: int, stop: int) -> list[WaitingText[P]]:
        """Takes a run of the flow's texts by length; then `settle`."""
        texts = [entry[3] for entry in flow.by_length[start:stop]]
        del flow.by_length[start:stop]
        tokens = sum(text.tokens for text in texts)
        flow.tokens -= tokens
        self.tokens -= tokens
        self.texts -= len(texts)
        return texts

    def settle(self) -> None:
        """Moves the class to the lowest tag that still waits, and forgets flows that are no further."""
        if not self.texts:  # all begin anew
            self._flows.clear()
            self._virtual = 0.0
            return
        lowest = min(flow.tag for flow in self._flows.values() if flow.by_length)
        if lowest > self._virtual:
            self._virtual = lowest
            done = [name for name, flow in self._flows.items() if not flow.by_length and flow.tag <= lowest]
            for name in done:
                del self._flows[name]

    def tokens_before(self, share: Share, tokens: int, due_s: float) -> float:
        """Tokens that are served before a new request of that many, due then, has been served."""
        own = self._flows.get(share.tenant)
        tag = self._virtual if own is None else max(own.tag, self._virtual)
        before = own.tokens_due_by(due_s) if own is not None and own.by_length else 0
        finish = tag + (before + tokens) / share.weight
        others = sum(
            min(float(flow.tokens), max(0.0, (finish - flow.tag) * flow.weight))
            for flow in self._flows.values()
            if flow is not own
        )
        return before + others


def _only(flows: list[Flow[P]]) -> Flow[P] | None:
    return flows[0] if flows else None
