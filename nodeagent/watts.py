"""The joules of the node's cards, read each second, and of a shared card each one's share.

Owns one meter a card and who has a part of it now. Leaves a card's counters to `energy.gpu`, the sharing-out
to `shares`. All calls come on one thread of its own, so that a slow reading keeps no clock from being set.
Called by `server`.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from energy.gpu import Gpu as MeteredGpu
from energy.gpu import GpuError, GpuMeter, Refused
from energy.reading import NO_TELEMETRY, MeterUnavailable, Reading, Unknown
from energy.reopened import Reopened
from minwatt.v1.node_agent import ReadReply
from nodeagent.shares import Part, Shares

READ_EVERY_S = 1.0
FRESH_S = 0.2  # a whole card's watts are read again for who asks later than that
FORGET_S = 600.0  # after its last part of a card somebody is forgotten
ESTIMATE = "nvml-estimate"


class Slice(Protocol):
    @property
    def uuid(self) -> str: ...
    @property
    def gpu_instance(self) -> int: ...
    @property
    def sm_count(self) -> int: ...


class Gpu(MeteredGpu, Protocol):
    """One open card. Every method may raise Refused, GpuGone, or GpuError."""

    def compute_pids(self) -> frozenset[int]: ...

    def process_activity(self, since_us: int) -> tuple[dict[int, int], int]: ...

    def instances(self) -> Sequence[Slice]: ...

    def instance_activity(self, gpu_instance: int) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """How cards and processes are seen."""

    open: Callable[[str], Gpu]
    owner_of: Callable[[int], str]
    clock: Callable[[], float]


class CardWatts:
    """One card's. Opened when it is first read."""

    def __init__(self, uuid: str, sight: Sight) -> None:
        self.uuid = uuid
        self._sight = sight
        self._meter: GpuMeter | None = None
        self._card = Reopened(sight.open, uuid)  # to see who computes; the meter has one of its own
        self.last: Reading | Unknown = Unknown("not read yet", sight.clock())
        self.shares = Shares()
        self._newest_us = 0
        self._seen_s: dict[str, float] = {}

    def read(self) -> None:
        """Never raises."""
        try:
            if self._meter is None:
                self._meter = GpuMeter(self._sight.open, self.uuid, self._sight.clock, whole_card=True)
        except MeterUnavailable as error:
            self.last = Unknown(str(error).removeprefix("meter = 'nvml': "), self._sight.clock())
            return
        self.last = self._meter.read()

    def share_out(self) -> None:
        """What was read last, among who has a part of the card now. Never raises."""
        if not isinstance(self.last, Reading):
            return
        try:
            parts = self._parts()
        except GpuError:
            return  # the window stays open: its joules are shared out with the next reading
        for part in parts:
            self._seen_s[part.name] = self.last.at_s
        gone = [name for name, seen_s in self._seen_s.items() if seen_s + FORGET_S < self.last.at_s]
        for name in gone:
            del self._seen_s[name]
        self.shares.forget(gone)
        self.shares.observe(self.last, parts)

    def reply(self, part: str | None, epoch: str) -> ReadReply:
        """Of the whole card, or of who has this name."""
        reading, telemetry = self.last, self._meter.telemetry() if self._meter else NO_TELEMETRY
        device = self.uuid if part is None else part if part.startswith("MIG-") else f"{self.uuid}/{part}"
        told = ReadReply(
            source="nvml" if part is None else ESTIMATE,
            device=device,
            epoch=epoch,
            age_s=max(0.0, self._sight.clock() - reading.at_s),
            utilization=telemetry.utilization,
            clock_hz=telemetry.clock_hz,
            temperature_c=telemetry.temperature_c,
            power_limit_w=telemetry.power_limit_w,
        )
        if isinstance(reading, Unknown):
            return told.model_copy(update={"unknown": reading.reason})
        if part is None:
            return told.model_copy(update={"joules_total": reading.joules_total, "watts": reading.watts})
        share = self.shares.of(part)
        if share.watts is None:
            return told.model_copy(update={"unknown": "the first window is not over"})
        return told.model_copy(update={"joules_total": share.joules, "watts": share.watts})

    def close(self) -> None:
        if self._meter is not None:
            self._meter.close()
        self._card.close()

    def _parts(self) -> list[Part]:
        """Raises GpuError."""
        with self._card.use() as gpu:
            slices = gpu.instances()
            return self._slices(gpu, slices) if slices else self._owners(gpu)

    def _slices(self, gpu: Gpu, slices: Sequence[Slice]) -> list[Part]:
        activity = {one: self._instance_activity(gpu, one) for one in {part.gpu_instance for part in slices}}
        return [Part(part.uuid, part.sm_count, activity[part.gpu_instance]) for part in slices]

    def _instance_activity(self, gpu: Gpu, gpu_instance: int) -> float | None:
        try:
            return gpu.instance_activity(gpu_instance)
        except Refused:  # before Hopper
            return None

    def _owners(self, gpu: Gpu) -> list[Part]:
        activity: dict[int, int] | None
        try:
            activity, self._newest_us = gpu.process_activity(self._newest_us)
        except Refused:
            activity = None
        try:
            pids = gpu.compute_pids()
        except Refused:
            pids = frozenset()
        by_owner: dict[str, int] = {}
        for pid in sorted(pids | (activity or {}).keys()):
            owner = self._sight.owner_of(pid) or f"pid:{pid}"
            by_owner[owner] = by_owner.get(owner, 0) + (activity or {}).get(pid, 0)
        return [Part(owner, 1, None if activity is None else float(busy)) for owner, busy in by_owner.items()]


class Watts:
    """Of all cards."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._epoch = uuids.uuid4().hex  # joules of a share count from the agent's start
        self._split: set[str] = set()  # cards somebody wanted to know his share of
        self.cards: dict[str, CardWatts] = {}

    def poll(self, cards: Sequence[str]) -> None:
        """Reads each of the cards. Never raises."""
        for uuid in cards:
            card = self._of(uuid)
            card.read()
            if uuid in self._split:
                card.share_out()

    def read(self, uuid: str, part: str | None) -> ReadReply:
        """Of a whole card, or of one who has a part of it. Never raises."""
        card = self._of(uuid)
        if part is not None and uuid not in self._split:
            self._split.add(uuid)
            self.poll([uuid])  # the first window begins
        elif part is None and self._sight.clock() - card.last.at_s > FRESH_S:
            card.read()
        return card.reply(part, self._epoch)

    def close(self) -> None:
        for card in self.cards.values():
            card.close()

    def _of(self, uuid: str) -> CardWatts:
        if uuid not in self.cards:
            self.cards[uuid] = CardWatts(uuid, self._sight)
        return self.cards[uuid]
