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

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Generic

from service.waiting import P, Share, WaitingText

DueEntry = tuple[float, int, WaitingText[P]]  # due, order of arrival
LengthEntry = tuple[int, float, int, WaitingText[P]]  # tokens, due, order of arrival


class Flow(Generic[P]):
    """One tenant's texts of the class."""

    __slots__ = ("by_due", "longest", "tag", "tokens", "weight")

    def __init__(self, tag: float) -> None:
        self.tag = tag
        self.weight = 1.0
        self.tokens = 0
        self.longest = 0  # tokens of a text, since it was last empty
        self.by_due: list[DueEntry[P]] = []

    def first(self) -> WaitingText[P]:
        """Due first; there must be one."""
        return self.by_due[0][2]

    def earliest_by_length(self, count: int) -> list[LengthEntry[P]]:
        """The `count` texts that are due first."""
        return sorted((text.tokens, due_s, order, text) for due_s, order, text in self.by_due[:count])

    def add(self, text: WaitingText[P]) -> None:
        insort(self.by_due, (text.due_s, text.order, text))
        self.tokens += text.tokens
        self.longest = max(self.longest, text.tokens)

    def remove(self, text: WaitingText[P]) -> None:
        del self.by_due[bisect_left(self.by_due, (text.due_s, text.order, text))]
        self.tokens -= text.tokens

    def tokens_due_by(self, due_s: float) -> int:
        if not self.by_due or self.by_due[-1][0] <= due_s:
            return self.tokens
        later = bisect_right(self.by_due, due_s, key=lambda entry: entry[0])
        return self.tokens - sum(entry[2].tokens for entry in self.by_due[later:])


class FairClass(Generic[P]):
    """The class's flows. A flow that is empty is kept while its tag is still ahead."""

    def __init__(self) -> None:
        self._flows: dict[str, Flow[P]] = {}
        self._virtual = 0.0  # where the class has come to: the lowest tag of those that wait
        self.texts = 0
        self.tokens = 0

    def waiting(self) -> list[Flow[P]]:
        return [flow for flow in self._flows.values() if flow.by_due]

    def next_flow(self) -> Flow[P] | None:
        """Of the lowest tag; of equal ones that whose text is due first."""
        flows = self.waiting()
        if len(flows) < 2:
            return flows[0] if flows else None
        return min(flows, key=lambda flow: (flow.tag, flow.by_due[0][0]))

    def first_due(self) -> WaitingText[P] | None:
        """Of all tenants."""
        return min((flow.first() for flow in self.waiting()), key=lambda text: text.due_s, default=None)

    def longest(self) -> int:
        """No text that waits has more tokens; 0 if none waits."""
        return max((flow.longest for flow in self.waiting()), default=0)

    def add(self, text: WaitingText[P]) -> None:
        share = text.share
        flow = self._flows.get(share.tenant)
        if flow is None:
            flow = self._flows[share.tenant] = Flow(self._virtual)
        if not flow.by_due:
            flow.tag = max(flow.tag, self._virtual)
            flow.longest = 0
        flow.weight = share.weight
        flow.add(text)
        self.tokens += text.tokens
        self.texts += 1

    def remove(self, text: WaitingText[P]) -> None:
        """One that leaves unserved."""
        self.take(self._flows[text.share.tenant], [text])
        self.settle()

    def take(self, flow: Flow[P], texts: Iterable[WaitingText[P]]) -> None:
        """Takes some of the flow's texts; then `settle`."""
        for text in texts:
            flow.remove(text)
            self.tokens -= text.tokens
            self.texts -= 1

    def clear(self) -> None:
        """All have left, served; the class begins anew."""
        self._flows.clear()
        self._virtual = 0.0
        self.texts = self.tokens = 0

    def settle(self) -> None:
        """Moves the class to the lowest tag that still waits, and forgets flows that are no further."""
        if not self.texts:  # all begin anew
            self.clear()
            return
        lowest = min(flow.tag for flow in self._flows.values() if flow.by_due)
        if lowest > self._virtual:
            self._virtual = lowest
            done = [name for name, flow in self._flows.items() if not flow.by_due and flow.tag <= lowest]
            for name in done:
                del self._flows[name]

    def tokens_before(self, share: Share, tokens: int, due_s: float) -> float:
        """Tokens that are served before a new request of that many, due then, has been served."""
        if not self.texts:
            return 0.0
        own = self._flows.get(share.tenant)
        tag = self._virtual if own is None else max(own.tag, self._virtual)
        before = 0 if own is None else own.tokens_due_by(due_s)
        if own is not None and len(self._flows) == 1:
            return before
        finish = tag + (before + tokens) / share.weight
        others = sum(
            min(float(flow.tokens), max(0.0, (finish - flow.tag) * flow.weight))
            for flow in self._flows.values()
            if flow is not own
        )
        return before + others
