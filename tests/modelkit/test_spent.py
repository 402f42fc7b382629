"""Joules of a training: all parts of it count, also those before a kill; what is not known is not zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from energy import Reading, Telemetry, Unknown
from minwatt.v1.errors import UsageError
from modelkit.scoring.finetune_report import TrainingEnergy
from modelkit.training.spent import Spent, open_training_meter


@dataclass
class StandIn:
    """A meter of 10 W on a clock that is set by hand."""

    now_s: float = 100.0
    source: str = "modelled"
    known: bool = True
    device: str = "stand-in"
    idle_w: float | None = None
    busy_w_per_core: float | None = None
    opening_j: float | None = 0.0
    closed: list[bool] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    def read(self) -> Reading | Unknown:
        if not self.known:
            return Unknown("hidden", self.now_s)
        return Reading(10 * self.now_s, 10.0, self.source, self.now_s)

    def telemetry(self) -> Telemetry:
        return Telemetry()

    def close(self) -> None:
        self.closed.append(True)


def test_a_killed_part_counts_and_another_training_does_not(tmp_path: Path) -> None:
    meter = StandIn()
    killed = Spent(meter, tmp_path / "spent-0.json", "this", meter.clock)
    killed.__enter__()
    for _ in range(3):
        meter.now_s += 6
        killed.note()
    # Written after 12 s; what came later is lost with the kill.
    meter.now_s = 1000.0
    with Spent(meter, tmp_path / "spent-0.json", "this", meter.clock) as spent:
        meter.now_s += 5
    assert (spent.joules, spent.duration_s) == (170.0, 17.0)
    with Spent(meter, tmp_path / "spent-0.json", "another", meter.clock) as spent:
        meter.now_s += 5
    assert (spent.joules, spent.duration_s) == (50.0, 5.0)
    assert meter.closed == [True, True]


def test_what_no_meter_could_tell_is_not_known(tmp_path: Path) -> None:
    meter = StandIn(known=False)
    with Spent(meter, tmp_path / "spent-0.json", "this", meter.clock) as spent:
        meter.now_s += 20
        spent.note()
    assert (spent.joules, spent.duration_s) == (None, 20.0)
    meter.known = True
    with Spent(meter, tmp_path / "spent-0.json", "this", meter.clock) as spent:
        meter.now_s += 1
    assert (spent.joules, spent.duration_s) == (None, 21.0)


def test_of_several_processes_on_a_machine_one_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    for source, joules in (("rapl", 0.0), ("modelled", 10.0)):
        meter = StandIn(source=source)
        with Spent(meter, tmp_path / f"{source}.json", "this", meter.clock) as spent:
            meter.now_s += 1
        assert spent.joules == joules


def test_a_meter_is_of_what_computes() -> None:
    with pytest.raises(
        UsageError, match=r"meter = 'modelled': the training computes on a card; allowed: auto"
    ):
        open_training_meter("modelled", card="GPU-1")
    with pytest.raises(UsageError, match=r"meter = 'sun': allowed: auto, nvml"):
        open_training_meter("sun", card=None)
    meter = open_training_meter("modelled:idle_w=1", card=None)
    assert meter.source == "modelled"
    meter.close()


def test_energy_is_told_with_its_source() -> None:
    energy = TrainingEnergy.of(("modelled", "an estimate"), "cpu", 2, (3.6e6, 90.0), 400.0)
    assert (energy.kwh, energy.gco2) == (1.0, 400.0)
    assert energy.at(100.0).gco2 == 100.0
    assert energy.in_words() == (
        "90 s on cpu, 3.6e+06 J = 1 kWh, 400 gCO2 at 400 g a kWh (modelled; an estimate)"
    )
    unknown = TrainingEnergy.of(("rapl", ""), "cpu", 1, (None, 60.0), 400.0)
    assert (unknown.kwh, unknown.gco2) == (None, None)
    assert "joules are not known" in unknown.in_words()
