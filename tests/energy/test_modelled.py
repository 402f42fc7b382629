"""The modelled meter on a process described by hand, and on this one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.modelled import ModelledMeter, PowerModel, ProcessTimes, this_process


@given(st.floats(0, 500), st.floats(0, 50), st.floats(0.01, 1e6), st.floats(0.001, 1e6), st.floats(0, 64))
def test_joules_are_idle_watts_and_busy_cores_over_the_process_s_life(
    idle_w: float, core_w: float, age_s: float, later_s: float, cores: float
) -> None:
    now_s = cpu_s = 0.0
    process = ProcessTimes(pid=7, age_s=age_s, cpu_s=lambda: cpu_s)
    meter = ModelledMeter(PowerModel(idle_w, core_w), process, lambda: now_s)
    first = meter.read()
    assert first.joules_total == pytest.approx(idle_w * age_s)
    assert first.watts == pytest.approx(idle_w)
    now_s, cpu_s = later_s, cores * later_s
    reading = meter.read()
    assert reading.joules_total == pytest.approx(idle_w * (age_s + later_s) + core_w * cpu_s)
    if later_s >= 1:
        assert reading.watts == pytest.approx(idle_w + core_w * cores, rel=1e-4, abs=1e-4)


def test_watts_are_those_of_the_last_second() -> None:
    now_s = cpu_s = 0.0
    meter = ModelledMeter(PowerModel(), ProcessTimes(7, 100.0, lambda: cpu_s), lambda: now_s)
    watts = []
    for at_s, used_s in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.5), (1.5, 1.0), (2.0, 1.0), (3.0, 1.0)):
        now_s, cpu_s = at_s, used_s
        watts.append(meter.read().watts)
    assert watts[2:] == pytest.approx([0.74 + 2.76 / 2, 3.5, 0.74 + 2.76 / 2, 0.74])


def test_this_process_has_lived_and_computed() -> None:
    process = this_process()
    assert process.age_s > 0
    meter = ModelledMeter(PowerModel(), process, time.monotonic)
    before = meter.read()
    assert before.joules_total >= 0.74 * process.age_s
    assert meter.device == f"process:{process.pid}"
    busy_until_s = time.process_time() + 0.02
    while time.process_time() < busy_until_s:
        pass
    assert meter.read().joules_total - before.joules_total >= 2.76 * 0.02
