"""Watts of the CPU packages, from Intel's and AMD's RAPL counters as Linux's powercap shows them.

Reads `intel-rapl:N/{name,energy_uj,max_energy_range_uj}` (AMD's go by the same name) and sums the zones named
package-N. Left out: sub-zones (core, dram), `psys` and `intel-rapl-mmio`, which count the same joules again.
The counters belong to the whole machine: all its processes are in them. Since CVE-2020-8694 the kernel lets
only root read them, unless the administrator allows more; for others every reading is Unknown.

A counter starts from 0 again after max_energy_range_uj. One such turn between two readings is made good; more
than one is not (262 kJ, a common range, take 20 minutes at 200 W, so read at least that often). A meter that
is opened after a turn starts from the counter as it is then: lower than one that saw the turn.

Owns the zones and the wrap-around. Called by opening.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from energy.reading import NO_TELEMETRY, MeterUnavailable, Reading, Telemetry, Unknown
from energy.window import MeanPower

POWERCAP_ROOT = Path("/sys/class/powercap")
UJ_PER_J = 1_000_000
_ZONE = re.compile(r"intel-rapl:\d+")


@dataclass(frozen=True, slots=True)
class Package:
    """A CPU package's zone. range_uj: the counter's highest value before it starts from 0 again."""

    name: str
    folder: Path
    range_uj: int

    def energy_uj(self) -> int:
        return int((self.folder / "energy_uj").read_text())


def advance_uj(before_uj: int, now_uj: int, range_uj: int) -> int:
    """Microjoules between two values of a counter that holds 0 to range_uj, with at most one turn."""
    return now_uj - before_uj if now_uj >= before_uj else now_uj - before_uj + range_uj


def find_packages(root: Path) -> tuple[Package, ...]:
    """The CPU packages under a powercap tree, in the order of their names; empty where there are none."""
    if not root.is_dir():
        return ()
    folders = sorted(folder for folder in root.iterdir() if _ZONE.fullmatch(folder.name))
    packages = []
    for folder in folders:
        name = (folder / "name").read_text().strip()
        if name.startswith("package"):
            packages.append(Package(name, folder, int((folder / "max_energy_range_uj").read_text())))
    return tuple(packages)


class RaplMeter:
    """Sum of all packages. `watts` is the mean of the last second."""

    source = "rapl"
    idle_w: float | None = None
    busy_w_per_core: float | None = None

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        """Raises MeterUnavailable where the tree shows no CPU package."""
        try:
            self._packages = find_packages(root)
        except (OSError, ValueError) as error:
            raise MeterUnavailable(f"meter = 'rapl': {root}: {_reason(error)}") from error
        if not self._packages:
            raise MeterUnavailable(f"meter = 'rapl': no CPU package under {root}")
        self.device = "+".join(package.name for package in self._packages)
        self._clock = clock
        self._last_uj: tuple[int, ...] | None = None  # a value for each package; None before the first
        self._total_uj = 0  # from the counters' first values on, without their turns
        # The counters are refreshed each millisecond: 50 ms are exact to a few percent.
        self._mean = MeanPower(window_s=1.0, least_s=0.05)
        self.read()
        self.opening_j = self._total_uj / UJ_PER_J if self.readable else None

    @property
    def readable(self) -> bool:
        return self._last_uj is not None

    def read(self) -> Reading | Unknown:
        now_s = self._clock()
        try:
            values_uj = tuple(package.energy_uj() for package in self._packages)
        except (OSError, ValueError) as error:
            return Unknown(_reason(error), now_s)
        if self._last_uj is None:
            self._total_uj = sum(values_uj)
            self._mean.restart(now_s, self._total_uj / UJ_PER_J)
        else:
            self._total_uj += sum(
                advance_uj(before_uj, value_uj, package.range_uj)
                for before_uj, value_uj, package in zip(self._last_uj, values_uj, self._packages, strict=True)
            )
        self._last_uj = values_uj
        joules = self._total_uj / UJ_PER_J
        watts = self._mean.add(now_s, joules)
        if watts is None:
            return Unknown("the first window is not over", now_s)
        return Reading(joules, watts, self.source, now_s)

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None:
        """Nothing is held."""


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return f"permission: {error.filename} may not be read by this user"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return f"not a number: {error}"
