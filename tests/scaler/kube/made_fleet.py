"""A hub whose replicas are the ready pods of a stand-in cluster: each reports each second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scaler.bus import FleetView
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report


@dataclass
class Traffic:
    """What comes to a fleet, in requests a second, shared by whoever is ready."""

    clock: Callable[[], float]
    ready: Callable[[], list[str]]
    rate_rps: float = 50.0
    silent: bool = False
    fails: Exception | None = None
    points: list[OperatingPoint] = field(default_factory=list)
    _since_s: dict[str, float] = field(default_factory=dict)
    _done: dict[str, float] = field(default_factory=dict)
    _last_s: float | None = None

    def view(self) -> FleetView:
        if self.fails is not None:
            raise self.fails
        if self.silent:
            return FleetView.of(frozenset(self._since_s), ())
        now_s, names = self.clock(), self.ready()
        passed_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        for name in names:
            self._since_s.setdefault(name, now_s)
            self._done[name] = self._done.get(name, 0.0) + passed_s * self.rate_rps / len(names)
        self._since_s = {name: at_s for name, at_s in self._since_s.items() if name in names}
        return FleetView.of(frozenset(names), tuple(self._report(name, now_s) for name in names))

    def _report(self, name: str, now_s: float) -> Report:
        done = int(self._done[name])
        return Report(
            name,
            now_s,
            ReplicaState.READY,
            Metered("modelled", f"process:{name}", 2.0 * (now_s - self._since_s[name]), 2.0),
            "node-1",
            variant="int8",
            arrivals_total=done,
            completions_total=done,
            texts_total=done,
            tokens_total=16 * done,
            padded_tokens_total=16 * done,
            batches_total=done,
            batched_texts_total=done,
            busy_s_total=0.007 * done,
            start_up_s=2.0,
            operating_point_version=self.points[-1].version if self.points else 0,
        )


@dataclass
class MadeBus:
    traffic: Traffic

    async def publish(self, point: OperatingPoint) -> None:
        self.traffic.points.append(point)

    async def collect(self) -> FleetView:
        return self.traffic.view()

    async def close(self) -> None: ...


@dataclass
class MadeHub:
    """One for all copies of the controller, as a Redis is."""

    traffic: Callable[[str], Traffic]
    address: str = "made up"
    fleets: dict[str, Traffic] = field(default_factory=dict)

    def fleet(self, name: str) -> MadeBus:
        if name not in self.fleets:
            self.fleets[name] = self.traffic(name)
        return MadeBus(self.fleets[name])

    async def strays(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None: ...
