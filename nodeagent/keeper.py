"""Keeps every card of the node at what its leases want: the table, the policy and the cards together.

Owns the order of things: the table changes, the card follows, and a change that the card refuses is taken
back. Leaves the socket to `server`, who may ask to `peers`, one card's journal-and-set to `hold`, and who
computes to `cards`. All calls come on one thread; each may block for milliseconds. `tick` does what is due
and says when to come again.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from energy.gpu import GpuError, Refused
from minwatt.v1.node_agent import CardInfo, Code, LeaseReply, LeaseRequest, RenewRequest
from nodeagent.bounds import Bounds, NotAllowed
from nodeagent.cards import Cards, NoCard, Node
from nodeagent.journal import Journal
from nodeagent.leases import DEFAULT, Lease, Leases, Setting
from nodeagent.policy import NodePolicy

RETRY_S = 5.0  # after a card could not be set
CHECK_S = 5.0  # between two looks whether others have changed a leased card

log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818
    """A request that is not done; `str()` is the reason."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Holder:
    """A connection, and who is behind it."""

    connection: int
    owner: str


class Keeper:
    """`recover` first."""

    def __init__(self, node: Node, journal: Journal, policy: NodePolicy) -> None:
        self.policy = policy
        self.leases = Leases()
        self.cards = Cards(node, journal)
        self.counts: Counter[str] = Counter()  # granted, ended, restored, failed, recovered, changed
        self._retry_s: dict[str, float] = {}
        self._why: dict[str, str] = {}  # a card is not as it is to be
        self._check_s: dict[str, float] = {}
        self._changed: set[str] = set()  # cards that others had changed at the last check
        self._closed = False

    @property
    def owed(self) -> tuple[str, ...]:
        """Cards that are not as they are to be."""
        holds = list(self.cards.holds.items())  # the metrics ask from another thread
        return tuple(uuid for uuid, hold in holds if not hold.is_at(self._wanted(uuid)))

    def recover(self, now_s: float) -> float:
        """Restores what the journal says an earlier agent has set. Returns as `tick` does."""
        for uuid in self.cards.recall():
            self.counts["recovered"] += 1
            log.warning("%s: an earlier agent left it set: it is restored", uuid)
        return self.tick(now_s)

    def tick(self, now_s: float) -> float:
        """Ends the leases that have run out, looks who computes, sets what is not as it is to be.

        Returns when it is to be called again, at the latest; infinite: when something has changed.
        """
        next_s = self.cards.find(now_s)
        self._keep(self.leases.at(now_s))
        for uuid in self.leases.cards:
            next_s = min(next_s, self._look(uuid, now_s), self._check(uuid, now_s))
        for uuid in self.owed:
            if now_s >= self._retry_s.get(uuid, -math.inf):
                self._try(uuid, now_s)
            next_s = min(next_s, self._retry_s.get(uuid, math.inf))
        return min(next_s, self.leases.next_end_s)

    def grant(self, holder: Holder, request: LeaseRequest, now_s: float) -> LeaseReply:
        """Raises Refusal; then the holder has what it had before."""
        if self._closed:  # a connection that came as the others were ended
            raise Refusal("unavailable", "the agent ends")
        uuid = self._named(request.card)
        self._keep(self.leases.at(now_s))
        if not self._shared(uuid) and self.leases.owners(uuid) - {holder.owner}:
            message = f"{uuid}: another holds it, and the node's policy lets nobody share it"
            raise Refusal("not_allowed", message)
        try:
            wish = self._bounds(uuid).within(Setting(request.sm_clock_mhz, request.power_limit_w))
        except NotAllowed as error:
            raise Refusal("not_allowed", str(error)) from error
        except GpuError as error:
            raise _refusal(uuid, error) from error
        ttl_s = min(request.ttl_s, self.policy.max_ttl_s)
        before = self.leases
        self.leases = before.granted(uuid, holder.connection, Lease(holder.owner, wish, now_s + ttl_s))
        self._look(uuid, now_s)
        try:
            self._reach(uuid)
        except GpuError as error:
            self.leases = before
            self._failed(uuid, error, now_s)
            with contextlib.suppress(GpuError):  # the half that was set is taken back, or a later tick does
                self.cards.holds[uuid].reach(self._wanted(uuid))
            raise _refusal(uuid, error) from error
        self.counts["granted"] += 1
        return self._reply(uuid, wish, ttl_s)

    def renew(self, holder: Holder, request: RenewRequest, now_s: float) -> LeaseReply:
        """Raises Refusal; a lease that there is lasts on all the same."""
        uuid = self._named(request.card)
        self._keep(self.leases.at(now_s))
        ttl_s = min(request.ttl_s, self.policy.max_ttl_s)
        try:
            self.leases = self.leases.renewed(uuid, holder.connection, now_s + ttl_s)
        except KeyError:
            raise Refusal("no_lease", f"{uuid}: this connection holds no lease of it") from None
        try:
            self._reach(uuid)
        except GpuError as error:
            self._failed(uuid, error, now_s)
            raise _refusal(uuid, error) from error
        return self._reply(uuid, self.leases.by_key[uuid, holder.connection].wish, ttl_s)

    def release(self, holder: Holder, card: str, now_s: float) -> bool:
        """Whether there was a lease. Raises Refusal where there is no such card."""
        uuid = self._named(card)
        self._keep(self.leases.at(now_s))
        held = (uuid, holder.connection) in self.leases.by_key
        self._keep(self.leases.released(uuid, holder.connection))
        self._settle({uuid}, now_s)
        return held

    def left(self, connection: int, now_s: float) -> None:
        """The connection is closed: its leases end."""
        cards = {card for card, holder in self.leases.by_key if holder == connection}
        self._keep(self.leases.left(connection))
        self._settle(cards, now_s)

    def close(self) -> tuple[str, ...]:
        """Ends all leases, for good. Returns the cards that could not be restored: the journal has them."""
        self._closed = True
        self._keep(Leases())
        for _ in range(2):  # a lost card is opened anew the second time
            self._settle(self.owed, 0.0)
        owed = self.owed
        self.cards.close()
        return owed

    def describe(self) -> tuple[CardInfo, ...]:
        """The cards that answer."""
        infos = []
        for uuid in self.cards.present:
            try:
                bounds = self._bounds(uuid)
                info = CardInfo(
                    card=uuid,
                    name=self.cards.holds[uuid].name(),
                    shared=self._shared(uuid),
                    slices=self.cards.slices(uuid),
                    sm_clock_mhz=bounds.clocks_mhz,
                    power_limit_w=bounds.limit_w,
                )
            except GpuError as error:
                log.warning("%s: %s", uuid, error)
            else:
                infos.append(info)
        return tuple(infos)

    def part(self, owner: str, card: str) -> tuple[str, str | None]:
        """The card, and whose share of it a reading by `owner` is: a slice's, the owner's; None: all of it.

        Raises Refusal.
        """
        uuid = self._named(card)
        if card != uuid:
            return uuid, card
        slices = self.cards.slices(uuid)
        if slices:
            raise Refusal("no_card", f"card = {card!r}: MIG splits it; allowed: {', '.join(slices)}")
        return uuid, owner if self.policy.of_card(uuid).shared else None

    def _named(self, card: str) -> str:
        try:
            return self.cards.named(card)
        except NoCard as error:
            raise Refusal("no_card", str(error)) from error

    def _bounds(self, uuid: str) -> Bounds:
        return Bounds.of(self.cards.holds[uuid].range(), self.policy.of_card(uuid))

    def _shared(self, uuid: str) -> bool:
        return self.policy.of_card(uuid).shared or bool(self.cards.slices(uuid))

    def _bystanders(self, uuid: str) -> frozenset[str]:
        if self.policy.of_card(uuid).bystanders == "ignore":
            return frozenset()
        return self.leases.bystanders(uuid, self.cards.computing(uuid))

    def _wanted(self, uuid: str) -> Setting:
        return self.leases.wanted(uuid, self._bystanders(uuid))

    def _look(self, uuid: str, now_s: float) -> float:
        if self.policy.of_card(uuid).bystanders == "ignore":
            return math.inf
        try:
            return self.cards.look(uuid, now_s)
        except GpuError as error:
            self._failed(uuid, error, now_s)
            return self._retry_s[uuid]

    def _check(self, uuid: str, now_s: float) -> float:
        """Whether others have changed what is in force, once in a while. Returns when to come again."""
        hold = self.cards.holds[uuid]
        if hold.in_force in (None, DEFAULT):
            return math.inf
        if now_s < self._check_s.setdefault(uuid, now_s + CHECK_S):
            return self._check_s[uuid]
        self._check_s[uuid] = now_s + CHECK_S
        try:
            changed = hold.check()
        except GpuError as error:
            self._failed(uuid, error, now_s)
            return math.inf  # it is owed
        self.counts["changed"] += len(changed)
        if changed and uuid not in self._changed:  # once: another that keeps setting it can't fill the log
            log.warning("%s: changed by others: %s; set anew", uuid, ", ".join(changed))
        (self._changed.add if changed else self._changed.discard)(uuid)
        return self._check_s[uuid]

    def _keep(self, leases: Leases) -> None:
        self.counts["ended"] += max(0, len(self.leases.by_key) - len(leases.by_key))
        self.leases = leases

    def _settle(self, cards: Iterable[str], now_s: float) -> None:
        """At once, however lately it failed."""
        for uuid in cards:
            self._try(uuid, now_s)

    def _try(self, uuid: str, now_s: float) -> None:
        try:
            self._reach(uuid)
        except GpuError as error:
            self._failed(uuid, error, now_s)

    def _reach(self, uuid: str) -> None:
        hold, wanted = self.cards.holds[uuid], self._wanted(uuid)
        if not hold.is_at(wanted):
            hold.reach(wanted)
            self._retry_s.pop(uuid, None)
            self._check_s.pop(uuid, None)
            self._why.pop(uuid, None)
            if wanted == DEFAULT:
                self.counts["restored"] += 1
                log.info("%s: restored", uuid)

    def _failed(self, uuid: str, error: GpuError, now_s: float) -> None:
        self.counts["failed"] += 1
        self._retry_s[uuid] = now_s + RETRY_S
        if self._why.get(uuid) != str(error):
            self._why[uuid] = str(error)
            log.warning("%s: %s; tried again each %g s", uuid, error, RETRY_S)

    def _reply(self, uuid: str, wish: Setting, ttl_s: float) -> LeaseReply:
        now = self.cards.holds[uuid].in_force or DEFAULT
        asked = [
            (wish.clock_mhz, now.clock_mhz),
            (wish.limit_w, now.limit_w),
        ]
        why = ""
        if any(wished is not None and wished != there for wished, there in asked):
            why = "another lease of the card asks for more"
            if self._bystanders(uuid):
                why = "someone computes on the card who holds no lease of it: it is left at its default"
        return LeaseReply(
            granted_sm_clock_mhz=wish.clock_mhz,
            granted_power_limit_w=wish.limit_w,
            in_force_sm_clock_mhz=now.clock_mhz,
            in_force_power_limit_w=now.limit_w,
            ttl_s=ttl_s,
            why=why,
        )


def _refusal(uuid: str, error: GpuError) -> Refusal:
    return Refusal("refused" if isinstance(error, Refused) else "unavailable", f"{uuid}: {error}")
