"""From a spec string (the `--meter` flag) to an open meter.

    auto                             nvml if there is a GPU, else rapl if it is readable, else modelled
    nvml | nvml:INDEX | nvml:UUID    without a name: the first of CUDA_VISIBLE_DEVICES, else GPU 0
    rapl                             all CPU packages of this machine
    modelled | modelled:idle_w=0.74,busy_w_per_core=2.76
    replayed:FILE                    a recording, see energy.replayed

Owns the grammar and the choice. Leaves measuring to the meters. Called by the server and by the profiler.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from energy.gpu import GpuMeter
from energy.modelled import ModelledMeter, PowerModel, this_process
from energy.nvml import NvmlGpu, visible_gpu
from energy.rapl import POWERCAP_ROOT, RaplMeter
from energy.reading import MeterSpecError, MeterUnavailable, PowerMeter
from energy.replayed import ReplayedMeter, parse_recording

ALLOWED = "auto, nvml[:index-or-uuid], rapl, modelled[:idle_w=W,busy_w_per_core=W], replayed:FILE"


@dataclass(frozen=True, slots=True)
class _Machine:
    clock: Callable[[], float]
    powercap_root: Path
    environ: Mapping[str, str]


def open_meter(
    spec: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    powercap_root: Path = POWERCAP_ROOT,
    environ: Mapping[str, str] | None = None,
) -> PowerMeter:
    """The meter a spec names.

    A meter that is there but cannot be read (no permission, MIG) opens, and its readings are Unknown.
    Raises MeterSpecError for a spec that is not understood, MeterUnavailable for a meter this machine lacks.
    """
    machine = _Machine(clock, powercap_root, os.environ if environ is None else environ)
    kind, colon, argument = spec.partition(":")
    if spec == "auto":
        return _auto(machine)
    if kind == "nvml" and (argument or not colon) and not argument.startswith("-"):
        return _nvml(argument, machine)
    if spec == "rapl":
        return RaplMeter(powercap_root, clock)
    if kind == "modelled" and (argument or not colon):
        return ModelledMeter(_power_model(spec, argument), this_process(), clock)
    if kind == "replayed" and argument:
        return _replayed(Path(argument), clock)
    raise MeterSpecError(f"meter = {spec!r}: allowed: {ALLOWED}")


def _auto(machine: _Machine) -> PowerMeter:
    try:
        return _nvml("", machine)
    except MeterUnavailable:
        pass
    try:
        rapl = RaplMeter(machine.powercap_root, machine.clock)
    except MeterUnavailable:
        pass
    else:
        if rapl.readable:
            return rapl
    return ModelledMeter(PowerModel(), this_process(), machine.clock)


def _nvml(argument: str, machine: _Machine) -> GpuMeter:
    selector = argument or visible_gpu(machine.environ)
    if selector is None:
        raise MeterUnavailable("meter = 'nvml': CUDA_VISIBLE_DEVICES hides every GPU")
    return GpuMeter(NvmlGpu.open, selector, machine.clock)


def _power_model(spec: str, argument: str) -> PowerModel:
    names = [field.name for field in fields(PowerModel)]
    model = PowerModel()
    for item in filter(None, argument.split(",")):
        name, _, text = item.partition("=")
        if name not in names:
            raise MeterSpecError(f"meter = {spec!r}: {name!r} is not known; allowed: {', '.join(names)}")
        try:
            watts = float(text)
        except ValueError:
            watts = math.nan
        if not 0 <= watts < math.inf:
            raise MeterSpecError(f"meter = {spec!r}: {name} = {text!r}: allowed: watts, at least 0")
        model = replace(model, **{name: watts})
    return model


def _replayed(path: Path, clock: Callable[[], float]) -> ReplayedMeter:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise MeterUnavailable(f"meter = 'replayed:{path}': {reason}") from error
    return ReplayedMeter(parse_recording(text, str(path)), device=f"recording:{path.name}", clock=clock)
