"""Specs: what opens which meter, and the one line a mistake gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from energy import MeterSpecError, MeterUnavailable, Reading, open_meter
from energy.opening import ALLOWED
from tests.energy.test_rapl import zone


def test_auto_prefers_readable_rapl_to_the_model(tmp_path: Path) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    assert open_meter("auto", powercap_root=tmp_path, environ=hidden).source == "modelled"
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert open_meter("auto", powercap_root=tmp_path, environ=hidden).source == "rapl"
    counter.unlink()
    assert open_meter("auto", powercap_root=tmp_path, environ=hidden).source == "modelled"
    assert open_meter("rapl", powercap_root=tmp_path).source == "rapl"


def test_modelled_takes_its_parameters() -> None:
    meter = open_meter("modelled")
    assert (meter.idle_w, meter.busy_w_per_core) == (0.74, 2.76)
    meter = open_meter("modelled:busy_w_per_core=5")
    assert (meter.idle_w, meter.busy_w_per_core) == (0.74, 5.0)
    assert meter.device == f"process:{os.getpid()}"


def test_replayed_opens_a_file_and_counts_from_the_opening(tmp_path: Path) -> None:
    recording = tmp_path / "day.csv"
    recording.write_text("t_s,watts\n0,50\n60,50\n")
    now_s = 7.0
    meter = open_meter(f"replayed:{recording}", clock=lambda: now_s)
    now_s = 9.0
    assert meter.read() == Reading(100.0, 50.0, "replayed", 9.0)
    assert meter.device == "recording:day.csv"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("", f"meter = '': allowed: {ALLOWED}"),
        ("watts", f"meter = 'watts': allowed: {ALLOWED}"),
        ("auto:1", f"meter = 'auto:1': allowed: {ALLOWED}"),
        ("rapl:0", f"meter = 'rapl:0': allowed: {ALLOWED}"),
        ("nvml:", f"meter = 'nvml:': allowed: {ALLOWED}"),
        ("nvml:-1", f"meter = 'nvml:-1': allowed: {ALLOWED}"),
        ("replayed", f"meter = 'replayed': allowed: {ALLOWED}"),
        (
            "modelled:idle=1",
            "meter = 'modelled:idle=1': 'idle' is not known; allowed: idle_w, busy_w_per_core",
        ),
        (
            "modelled:idle_w=-1",
            "meter = 'modelled:idle_w=-1': idle_w = '-1': allowed: watts, at least 0",
        ),
        (
            "modelled:idle_w",
            "meter = 'modelled:idle_w': idle_w = '': allowed: watts, at least 0",
        ),
    ],
)
def test_mistake_in_a_spec_is_one_line(spec: str, line: str) -> None:
    with pytest.raises(MeterSpecError) as refused:
        open_meter(spec)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("rapl", "meter = 'rapl': no CPU package under {}"),
        ("nvml", "meter = 'nvml': CUDA_VISIBLE_DEVICES hides every GPU"),
        ("replayed:{}/absent.csv", "meter = 'replayed:{}/absent.csv': No such file or directory"),
        ("replayed:{}", "meter = 'replayed:{}': Is a directory"),
    ],
)
def test_meter_asked_for_and_missing_is_refused(spec: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable) as refused:
        open_meter(spec.format(tmp_path), powercap_root=tmp_path, environ={"CUDA_VISIBLE_DEVICES": ""})
    assert str(refused.value) == line.format(tmp_path)
