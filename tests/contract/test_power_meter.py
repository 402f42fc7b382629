"""What every PowerMeter keeps, whatever it reads: joules never go back, and missing is not zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energy import PowerMeter, Reading, Telemetry, Unknown
from energy.gpu import GpuMeter
from energy.modelled import ModelledMeter, PowerModel, ProcessTimes
from energy.rapl import RaplMeter
from energy.replayed import ReplayedMeter, parse_recording
from nodeagent.watts import Sight, Watts
from service.node_agent import AgentMeter
from tests.energy.nvml_stand_in import probe
from tests.energy.test_gpu import Card
from tests.energy.test_rapl import zone
from tests.nodeagent.in_memory import Card as MemoryCard
from tests.nodeagent.in_memory import Machine, owner_of


class Device:
    """What a meter reads: a clock, and the joules drawn by now, shown where the meter under test looks."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.joules = 0.0
        self.card = Card()
        self._counter = folder / "intel-rapl:0" / "energy_uj"
        if not self._counter.exists():
            zone(folder, "intel-rapl:0", "package-0", 0)
        self.advance(0.0, 0.0)

    def clock(self) -> float:
        return self.now_s

    def cpu_s(self) -> float:
        return self.joules

    def advance(self, seconds: float, joules: float) -> None:
        self.now_s += seconds
        self.joules += joules
        self.card.energy = round(self.joules * 1000)
        self._counter.write_text(f"{self.joules * 1e6:.0f}")


def modelled(device: Device, folder: Path) -> PowerMeter:
    return ModelledMeter(PowerModel(), ProcessTimes(7, 3.0, device.cpu_s), device.clock)


def rapl(device: Device, folder: Path) -> PowerMeter:
    return RaplMeter(folder, device.clock)


def replayed(device: Device, folder: Path) -> PowerMeter:
    recording = parse_recording("t_s,watts\n1,60\n4,\n9,240\n30,80\n60,80\n", "day.csv")
    return ReplayedMeter(recording, "recording:day.csv", device.clock)


def nvml_counter(device: Device, folder: Path) -> PowerMeter:
    return GpuMeter(device.card.open, "0", device.clock)


def nvml_power(device: Device, folder: Path) -> PowerMeter:
    device.card.has_counter = False
    return GpuMeter(device.card.open, "0", device.clock)


class Asked:
    """The node agent's watts, without the socket."""

    is_open = True

    def __init__(self, device: Device, part: str | None) -> None:
        machine = Machine(MemoryCard("GPU-in-memory", pids=frozenset({7}), activity={7: 50}))
        self._card = machine.cards["GPU-in-memory"]
        self._device, self._part = device, part
        self._watts = Watts(Sight(machine.open, owner_of, device.clock))

    def ask(self, request: object, expected: object) -> Any:
        self._card.joules = self._device.joules
        self._watts.poll(["GPU-in-memory"])
        return self._watts.read("GPU-in-memory", self._part)

    def close(self) -> None:
        self._watts.close()


def agent_card(device: Device, folder: Path) -> PowerMeter:
    return AgentMeter(Asked(device, None), device.clock)


def agent_share(device: Device, folder: Path) -> PowerMeter:
    asked = Asked(device, "pid:7")
    asked.ask(None, None)
    device.advance(1.0, 100.0)
    asked.ask(None, None)
    device.advance(1.0, 100.0)
    return AgentMeter(asked, device.clock)


METERS = [modelled, rapl, replayed, nvml_counter, nvml_power, agent_card, agent_share]
STEPS = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5000)), min_size=1, max_size=20)


def check(source: str, times_s: Sequence[float], outcomes: Sequence[Reading | Unknown]) -> None:
    assert source in {"nvml", "nvml-estimate", "rapl", "modelled", "replayed"}
    assert [outcome.at_s for outcome in outcomes] == list(times_s)
    joules = 0.0
    for outcome in outcomes:
        if isinstance(outcome, Unknown):
            assert outcome.reason
            assert {field.name for field in fields(outcome)} == {"reason", "at_s"}
        else:
            assert joules <= outcome.joules_total < math.inf
            assert 0 <= outcome.watts < math.inf
            assert outcome.source == source
            joules = outcome.joules_total


@pytest.mark.parametrize("open_on", METERS, ids=lambda open_on: open_on.__name__)
@given(steps=STEPS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_power_meter(
    open_on: Callable[[Device, Path], PowerMeter], steps: list[tuple[float, float]], tmp_path: Path
) -> None:
    device = Device(tmp_path)
    device.advance(1.0, 100.0)
    meter = open_on(device, tmp_path)
    assert meter.opening_j is not None
    outcomes, times_s = [], []
    for seconds, joules in steps:
        device.advance(seconds, joules)
        outcomes.append(meter.read())
        times_s.append(device.now_s)
    check(meter.source, times_s, outcomes)
    readings = [outcome for outcome in outcomes if isinstance(outcome, Reading)]
    assert all(reading.joules_total >= meter.opening_j for reading in readings)
    assert meter.device
    assert meter.idle_w is None or meter.idle_w >= 0
    assert meter.busy_w_per_core is None or meter.busy_w_per_core >= 0
    assert isinstance(meter.telemetry(), Telemetry)
    meter.close()
    meter.close()


def test_nvml_through_the_real_binding() -> None:
    script = """nvmlDeviceGetTotalEnergyConsumption 10 900000 !15 0 400000 !3 800000 !10 900000 300
        field186 50000 !15 90000
        nvmlInit 0 !9 0"""
    times_s = [float(second) for second in range(1, 40, 2)]
    said = probe(script, spec="nvml", times=times_s)
    kinds = {"Reading": Reading, "Unknown": Unknown}
    outcomes = [kinds[outcome.pop("kind")](**outcome) for outcome in said["outcomes"]]
    check(said["source"], times_s, outcomes)
    assert {type(outcome) for outcome in outcomes} == {Reading, Unknown}
