"""What a profile is measured on and with: the device's name and its meter.

Owns what those must be for the figures to be the replica's own. Called by `profile`.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from energy import MeterSpecError, MeterUnavailable, PowerMeter, open_meter
from energy.gpu import GpuError
from energy.modelled import ModelledMeter
from energy.nvml import NvmlGpu
from minwatt.v1.errors import UsageError
from scaler.profile import MeterNote

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Device:
    """`card`: the meter of a card that stays powered when its replica is gone; None of a CPU."""

    name: str
    meter: MeterNote
    card: PowerMeter | None


def find_device(provider: str, meter_spec: str) -> Device:
    """The CPU, or the card whose watts the meter reads. Raises UsageError."""
    try:
        meter = open_meter(meter_spec)
    except (MeterSpecError, MeterUnavailable) as error:
        raise UsageError(f"--meter: {error}") from error
    note = _note(meter)
    if provider == CPU:
        meter.close()
        return Device(_cpu(), note, None)
    if meter.source != "nvml":
        meter.close()
        raise UsageError(f"--meter = {meter_spec!r}: --provider {provider} computes on a card; allowed: nvml")
    return Device(_card(meter.device), note, meter)


def _note(meter: PowerMeter) -> MeterNote:
    """The meter's kind, and what a modelled one assumes."""
    if not isinstance(meter, ModelledMeter):
        return MeterNote(source=meter.source)
    return MeterNote(
        source=meter.source,
        parameters={"idle_w": meter.idle_w, "busy_w_per_core": meter.busy_w_per_core},
        notes="modelled from CPU time, not measured: published averages per vCPU, see energy/modelled.py",
    )


def _card(uuid: str) -> str:
    """The card's name as its driver says it."""
    try:
        gpu = NvmlGpu.open(uuid)
    except GpuError as error:
        raise UsageError(f"--meter: {error}") from error
    name = gpu.name
    gpu.close()
    return name


def _cpu() -> str:
    """The processor's name as the kernel knows it, and its cores."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
