"""Works the meter in a process of its own, where libnvidia-ml.so.1 is the stand-in; prints what it said.

The argument is JSON: `spec`, and either `times` to read at, or `calls` on the card ([method, arguments…]).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from energy import MeterSpecError, MeterUnavailable, open_meter
from energy.gpu import GpuError, GpuMeter
from energy.nvml import NvmlGpu


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


def call(spec: str, calls: list[list[Any]]) -> list[Any]:
    gpu = NvmlGpu.open(spec)
    answers: list[Any] = []
    for name, *arguments in calls:
        try:
            answers.append(getattr(gpu, name)(*arguments))
        except (GpuError, ValueError) as error:
            answers.append(f"{type(error).__name__}: {error}")
    gpu.close()
    return answers


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    answer = read(plan["spec"], plan["times"]) if "times" in plan else call(plan["spec"], plan["calls"])
    sys.stdout.write(json.dumps(answer))
