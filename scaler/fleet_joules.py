"""Joules of a whole fleet since it was first looked at, replicas that are gone included.

Pure. Each (host, device) counts once, however many replicas read it; the sum never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scaler.report import Metered, Report

_PROCESS = "process:"


_Device = tuple[str, str, str]  # host, device, replica: the last only where the meter is the replica's own


@dataclass(frozen=True, slots=True)
class FleetJoules:
    """`total_j` is None until a meter gave joules: no joules known is not no joules.

    `owns_processes`: the fleet's processes were started after this account began, so that all of a process
    meter's joules are the fleet's. A card's counter runs since its driver was loaded: the first reading is
    its zero.
    """

    owns_processes: bool
    total_j: float | None = None
    sources: frozenset[str] = frozenset()
    _highest_j: Mapping[_Device, float] = field(default_factory=dict)
    _last_j: Mapping[tuple[_Device, str], float] = field(default_factory=dict)  # as each replica read it last

    @property
    def source(self) -> str:
        """The kinds of meters that gave the joules, joined with +, or unknown."""
        return "+".join(sorted(self.sources)) or "unknown"

    def after(self, reports: Iterable[Report]) -> FleetJoules:
        """With the reports' joules counted in, oldest first."""
        highest, last = dict(self._highest_j), dict(self._last_j)
        total, sources = self.total_j, set(self.sources)
        for report in reports:
            power = report.power
            if not isinstance(power, Metered) or power.joules_total is None:
                continue
            now_j = power.joules_total
            own = power.device.startswith(_PROCESS)
            device = (report.host, power.device, report.replica_id if own else "")
            reader = (device, report.replica_id)
            known_j = highest.get(device)
            reset = known_j is not None and now_j < known_j and now_j < last.get(reader, 0.0)
            if reset or (known_j is None and own and self.owns_processes):
                gained = now_j
            else:
                # A neighbour on the same device may have read, and told, a later total already: nothing new
                # then.
                gained = 0.0 if known_j is None else max(0.0, now_j - known_j)
            highest[device] = now_j if reset or known_j is None else max(now_j, known_j)
            last[reader] = now_j
            total = (total or 0.0) + gained
            sources.add(power.source)
        return FleetJoules(self.owns_processes, total, frozenset(sources), highest, last)
