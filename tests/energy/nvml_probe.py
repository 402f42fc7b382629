"""Works the meter in a process of its own, where libnvidia-ml.so.1 is the stand-in; prints what it said.

The argument is JSON: `spec` and `times` to read the meter at; or `spec` and `calls` on the card ([method,
arguments…]); or `clocks`, calls on the card's clocks; or `present`, for the UUIDs of all cards.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, is_dataclass
from typing import Any

from energy import MeterSpecError, MeterUnavailable, open_meter
from energy.clocks import ClocksUnavailable, GpuClocks
from energy.gpu import GpuError, GpuMeter
from energy.nvml import NvmlGpu, present_gpus


def read(spec: str, times: list[float]) -> dict[str, Any]:
    now_s = 0.0
    try:
        meter = open_meter(spec, clock=lambda: now_s)
    except (MeterUnavailable, MeterSpecError) as error:
        return {"refused": type(error).__name__, "line": str(error)}
    outcomes = []
    for at_s in times:
        now_s = at_s
        outcome = meter.read()
        outcomes.append({"kind": type(outcome).__name__, **asdict(outcome)})
    method = meter.method if isinstance(meter, GpuMeter) else None
    said = {
        "source": meter.source,
        "device": meter.device,
        "method": method and method.value,
        "telemetry": asdict(meter.telemetry()),
        "outcomes": outcomes,
    }
    meter.close()
    return said


def call(card: NvmlGpu | GpuClocks, calls: list[list[Any]]) -> list[Any]:
    answers: list[Any] = []
    for name, *arguments in calls:
        try:
            answers.append(_plain(getattr(card, name)(*arguments)))
        except (GpuError, ValueError) as error:
            answers.append(f"{type(error).__name__}: {error}")
    card.close()
    return answers


def _plain(answer: Any) -> Any:
    """As JSON has it."""
    if isinstance(answer, frozenset):
        return sorted(answer)
    if isinstance(answer, tuple):
        return [_plain(one) for one in answer]
    return asdict(answer) if is_dataclass(answer) and not isinstance(answer, type) else answer


def present() -> Any:
    try:
        return present_gpus()
    except GpuError as error:
        return f"{type(error).__name__}: {error}"


def set_clocks(calls: list[list[Any]]) -> list[Any]:
    try:
        clocks = GpuClocks.of_this_machine()
    except ClocksUnavailable as error:
        return [str(error)]
    return call(clocks, calls)


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    answer: Any
    if "present" in plan:
        answer = present()
    elif "clocks" in plan:
        answer = set_clocks(plan["clocks"])
    elif "calls" in plan:
        answer = call(NvmlGpu.open(plan["spec"]), plan["calls"])
    else:
        answer = read(plan["spec"], plan["times"])
    sys.stdout.write(json.dumps(answer))
