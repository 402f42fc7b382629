"""What made a report: the command as it was typed, the time, the machine, the versions, and whose watts.

The one part of `report` that looks around: documents are made of values alone. Called by whoever writes one.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PACKAGES = ("minwatt", "onnxruntime", "onnxruntime-gpu", "tokenizers", "numpy", "plotly")
_CPUINFO = Path("/proc/cpuinfo")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Frozen):
    """That made the report; what was measured elsewhere names its own device."""

    system: str
    processor: str
    cores: int | None


class Provenance(_Frozen):
    """`versions`: of minwatt, Python, the engine and what figures may depend on, where they are installed.

    `watts`: the source of watts and joules in the report; None where it has none.
    """

    command: str
    made_at: datetime
    versions: dict[str, str]
    machine: Machine
    watts: str | None

    def in_words(self) -> str:
        """One line."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        cores = "" if self.machine.cores is None else f", {self.machine.cores} cores"
        watts = "" if self.watts is None else f" · watts: {self.watts}"
        return (
            f"Made {self.made_at:%Y-%m-%d %H:%M} UTC by: {self.command} · {versions}"
            f" · {self.machine.processor}{cores}, {self.machine.system}{watts}"
        )


def provenance(watts: str | None) -> Provenance:
    """Of this process, now. Arguments are told as they were given: no secret is ever one."""
    program = Path(sys.argv[0])
    name = "minwatt" if "minwatt" in (program.parent.name, program.name) else program.name
    return Provenance(
        command=shlex.join([name, *sys.argv[1:]]),
        made_at=datetime.now(UTC).replace(microsecond=0),
        versions={"python": platform.python_version()} | installed(_PACKAGES),
        machine=Machine(system=platform.platform(), processor=processor(), cores=os.cpu_count()),
        watts=watts,
    )


def processor() -> str:
    """As the kernel knows it; else the kind of machine."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed: minwatt itself may run from its sources."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
