"""The node's cards: which are there, which slices they have, who computes on them.

Owns looking, and how often. Leaves what a card is set to, to `hold`, and what that should be to `keeper`,
which calls this on its thread.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from energy.gpu import GpuError
from nodeagent.hold import Gpu, Hold
from nodeagent.journal import Journal

LOOK_S = 1.0  # between two looks at who computes on a card
FIND_S = 30.0  # between two looks for cards where there is none

log = logging.getLogger(__name__)


class NoCard(Exception):  # noqa: N818
    """One line: there is no card or slice of this name."""


@dataclass(frozen=True, slots=True)
class Node:
    """Where the cards are, and who is behind a process."""

    find: Callable[[], Sequence[str]]  # UUIDs; may raise GpuError
    open: Callable[[str], Gpu]
    owner_of: Callable[[int], str]  # of a process; empty where it can't be seen


class Cards:
    """`holds`: also of cards that are not there, but in the journal."""

    def __init__(self, node: Node, journal: Journal) -> None:
        self.present: tuple[str, ...] = ()
        self.none_because = ""
        self.holds: dict[str, Hold] = {}
        self._node = node
        self._journal = journal
        self._find_s = -math.inf
        self._looked_s: dict[str, float] = {}
        self._computing: dict[str, frozenset[str]] = {}

    def recall(self) -> tuple[str, ...]:
        """The cards that the journal has."""
        for uuid in self._journal.cards:
            self._hold(uuid)
        return self._journal.cards

    def find(self, now_s: float) -> float:
        """Looks for cards until there are some. Returns when to come again."""
        if self.present:
            return math.inf
        if now_s >= self._find_s:
            self._find_s = now_s + FIND_S
            try:
                found = tuple(self._node.find())
                if found:
                    self._journal.suspect(found)
                self.present = found
                why = "" if self.present else "this node has no GPU"
            except GpuError as error:
                why = f"this node has no GPU that can be set: {error}"
            if why != self.none_because or not why:
                log.info("%s", why or f"cards: {', '.join(self.present)}")
            self.none_because = why
            for uuid in self.present:
                self._hold(uuid)
        return math.inf if self.present else self._find_s

    def named(self, card: str) -> str:
        """The card of this UUID, or of the slice with it. Raises NoCard."""
        if card in self.present:
            return card
        for uuid in self.present:
            if card in self.slices(uuid):
                return uuid
        there = ", ".join(self.present) or self.none_because
        raise NoCard(f"card = {card!r}: not here; allowed: {there}")

    def slices(self, uuid: str) -> tuple[str, ...]:
        """None where the card doesn't answer."""
        try:
            return self.holds[uuid].slices()
        except GpuError:
            return ()

    def computing(self, uuid: str) -> frozenset[str]:
        """Who did, when it was looked."""
        return self._computing.get(uuid, frozenset())

    def look(self, uuid: str, now_s: float) -> float:
        """At who computes on the card, once in a while. Returns when to come again. Raises GpuError."""
        if now_s >= self._looked_s.get(uuid, -math.inf) + LOOK_S:
            self._looked_s[uuid] = now_s
            self._computing.pop(uuid, None)
            pids = self.holds[uuid].compute_pids()
            self._computing[uuid] = frozenset(map(self._node.owner_of, pids)) - {""}
        return self._looked_s[uuid] + LOOK_S

    def close(self) -> None:
        for hold in self.holds.values():
            hold.close()

    def _hold(self, uuid: str) -> None:
        if uuid not in self.holds:
            self.holds[uuid] = Hold(uuid, self._node.open, self._journal)
