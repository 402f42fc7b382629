"""The NVML meter through the real pynvml and a library with NVML's ABI that follows a script."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.energy.nvml_stand_in import probe

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"
INSTANT = "field186"
UUID = "GPU-00000000-0000-0000-0000-00000000000{}"


def read(script: str, times: list[float], spec: str = "nvml") -> dict[str, Any]:
    """What the meter said; its laws hold whatever the script."""
    said: dict[str, Any] = probe(script, spec=spec, times=times)
    readings = [outcome for outcome in said.get("outcomes", ()) if outcome["kind"] == "Reading"]
    assert all(before["joules_total"] <= after["joules_total"] for before, after in pairwise(readings))
    assert all(reading["watts"] > 0 and reading["source"] == "nvml" for reading in readings)
    return said


def summary(said: dict[str, Any]) -> list[tuple[float, float] | str]:
    """(joules_total, watts) of a Reading, the reason of an Unknown."""
    return [
        (outcome["joules_total"], outcome["watts"]) if outcome["kind"] == "Reading" else outcome["reason"]
        for outcome in said["outcomes"]
    ]


def test_counter_gives_joules_and_watts_over_five_seconds_or_more() -> None:
    said = read(f"{COUNTER} 1000000 1200000 1500000 1700000 3000000", [2, 5, 6, 12])
    assert said["method"] == "energy counter"
    assert summary(said) == [
        "the first 5 s of the energy counter are not over",
        (1500, 100),
        (1700, pytest.approx(700 / 6)),  # since 0 s: since 2 s would be 4 s only
        (3000, pytest.approx(1300 / 6)),
    ]


@pytest.mark.parametrize(
    "power", [f"{INSTANT} 240000", f"{POWER} 240000", f"{INSTANT} ?3\n{POWER} 240000"], ids=str.split
)
def test_until_the_counter_has_its_window_watts_come_from_the_power_fields(power: str) -> None:
    said = read(f"{COUNTER} 0 400000 1000000\n{power}", [2, 5])
    assert summary(said) == [(400, 240), (1000, 200)]


def test_without_a_counter_instantaneous_power_is_integrated() -> None:
    said = read(f"{INSTANT} 100000 200000 200000\n{POWER} 7000", [2, 3])
    assert said["method"] == "instantaneous power"
    assert summary(said) == [(300, 200), (500, 200)]


@pytest.mark.parametrize("refusal", ["", f"{COUNTER} !4\n{INSTANT} ?4", "nvmlDeviceGetFieldValues !13"])
def test_averaged_power_is_the_last_resort(refusal: str) -> None:
    said = read(f"{POWER} 60000\n{refusal}", [1, 2.5])
    assert said["method"] == "averaged power"
    assert summary(said) == [(60, 60), (150, 60)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("", "Not Supported"),
        (f"{COUNTER} !4\n{INSTANT} ?4\n{POWER} !4", "Insufficient Permissions"),
        (f"{COUNTER} 1000 2000\nnvmlDeviceGetMigMode 1/1", "MIG is on"),
    ],
)
def test_what_cannot_be_read_is_unknown_with_its_reason(script: str, reason: str) -> None:
    said = read(script, [1, 6])
    assert [outcome["kind"] for outcome in said["outcomes"]] == ["Unknown", "Unknown"]
    assert all(reason in line for line in summary(said))


def test_counter_that_goes_back_continues_from_the_last_total() -> None:
    said = read(f"{COUNTER} 9000000 9500000 100000 400000", [5, 6, 11])
    assert summary(said) == [
        (9500, 100),
        "the first 5 s of the energy counter are not over",
        (9800, 60),
    ]


def test_lost_card_is_unknown_until_it_is_opened_anew_with_backoff() -> None:
    # The driver refuses twice: tried 1 s after the loss, 2 s after that, and 4 s after that.
    script = f"nvmlInit 0 !9 !9 0\n{COUNTER} 1000000 1500000 !15 0 500000\n{INSTANT} 50000"
    said = read(script, [5, 6, 6.5, 7, 8.9, 9, 12.9, 13, 18])
    assert summary(said) == [
        (1500, 100),
        *["GPU is lost"] * 2,
        *["Driver Not Loaded"] * 4,
        (1500, 50),  # the gap's joules are not made up
        (2000, 100),
    ]


def test_failure_of_one_call_costs_one_reading_and_no_joules() -> None:
    said = read(f"{COUNTER} 0 500000 !10 700000", [5, 6, 7])
    assert summary(said) == [(500, 100), "Timeout", (700, pytest.approx(100))]


@pytest.mark.parametrize(("spec", "card"), [("nvml", 0), ("nvml:1", 1), (f"nvml:{UUID.format(1)}", 1)])
def test_card_is_chosen_by_index_or_uuid(spec: str, card: int) -> None:
    said = read(f"devices 2\n{POWER} 1000", [], spec)
    assert said["device"] == UUID.format(card)


@pytest.mark.parametrize(
    ("spec", "script", "line"),
    [
        ("nvml:2", "devices 2", "meter = 'nvml': GPU 2: this machine has 2, counted from 0"),
        ("nvml:GPU-x", "devices 2", "meter = 'nvml': GPU 'GPU-x': Not Found"),
        ("nvml", "nvmlInit !9", "meter = 'nvml': Driver Not Loaded"),
    ],
)
def test_card_that_is_not_there_is_refused_in_one_line(spec: str, script: str, line: str) -> None:
    assert read(script, [], spec) == {"refused": "MeterUnavailable", "line": line}


def test_auto_takes_the_card_and_without_one_something_else() -> None:
    assert read(f"{POWER} 1000", [1], "auto")["source"] == "nvml"
    assert probe("nvmlInit !9", spec="auto", times=[])["source"] in {"rapl", "modelled"}


def test_telemetry_in_si_units_and_none_where_a_card_cannot_say() -> None:
    script = f"""{POWER} 1000
        nvmlDeviceGetUtilizationRates 85
        nvmlDeviceGetClockInfo 1410
        nvmlDeviceGetTemperature 61
        nvmlDeviceGetPowerManagementLimit 350000"""
    everything = read(script, [])["telemetry"]
    assert everything == {
        "utilization": 0.85,
        "clock_hz": 1.41e9,
        "temperature_c": 61,
        "power_limit_w": 350,
    }
    assert read(f"{POWER} 1000\nnvmlDeviceGetTemperatureV 44", [])["telemetry"] == {
        "utilization": None,
        "clock_hz": None,
        "temperature_c": 44,
        "power_limit_w": None,
    }


def test_power_limit_and_clocks_are_set_read_back_and_reset() -> None:
    script = """nvmlDeviceGetPowerManagementLimit 350000
        nvmlDeviceGetPowerManagementDefaultLimit 350000
        nvmlDeviceGetPowerManagementLimitConstraints 100000/400000
        nvmlDeviceGetClockInfo 1980"""
    answers = probe(
        script,
        spec="0",
        calls=[
            ["set_power_limit_w", 250.5],
            ["power_limit_w"],
            ["set_power_limit_w", 99],
            ["default_power_limit_w"],
            ["lock_clocks_mhz", 600, 1200],
            ["clock_hz"],
            ["reset_clocks"],
            ["clock_hz"],
            ["lock_clocks_mhz", 900, 600],
        ],
    )
    assert answers == [
        None,
        250.5,
        "ValueError: limit_w = 99: allowed: 100 to 400",
        350,
        None,
        1.2e9,
        None,
        1.98e9,
        "GpuError: Invalid Argument",
    ]


def test_setting_without_root_says_so() -> None:
    script = """nvmlDeviceGetPowerManagementLimitConstraints 100000/400000
        nvmlDeviceSetPowerManagementLimit !4
        nvmlDeviceSetGpuLockedClocks !4"""
    answers = probe(script, spec="0", calls=[["set_power_limit_w", 200], ["lock_clocks_mhz", 600, 600]])
    assert answers == ["NotPermitted: Insufficient Permissions"] * 2


def test_who_computes_on_a_card_and_how_much() -> None:
    script = "compute_pids 10 20 30\nprocess_utilization 10/80 20/15 10/60 0/50 20/4000000000"
    answers = probe(script, spec="0", calls=[["compute_pids"], ["process_activity", 5]])
    assert answers == [[10, 20, 30], [{"10": 140, "20": 15}, 1005]]


def test_nobody_computes_on_a_card_and_a_card_that_does_not_say() -> None:
    calls = [["compute_pids"], ["process_activity", 5]]
    assert probe("compute_pids\nprocess_utilization", spec="0", calls=calls) == [[], [{}, 5]]
    assert probe("", spec="0", calls=calls) == ["Refused: Not Supported"] * 2
    lost = "nvmlDeviceGetComputeRunningProcesses !15"
    assert probe(lost, spec="0", calls=calls[:1]) == ["GpuGone: GPU is lost"]


def test_slices_of_a_card_and_how_busy_they_were() -> None:
    script = "nvmlDeviceGetMigMode 1/1\nmig_multiprocessors 16 32\ngpm1 7 40 55\ngpm2 0 100"
    calls = [["instances"], *[["instance_activity", 1]] * 3, *[["instance_activity", 2]] * 2]
    slices, *busy = probe(script, spec="0", calls=calls)
    assert slices == [
        {"uuid": f"MIG-00000000-0000-0000-000{n}-000000000000", "gpu_instance": n, "sm_count": sms}
        for n, sms in ((1, 16), (2, 32))
    ]
    assert busy == [None, 0.4, 0.55, None, 1.0]
    assert probe("", spec="0", calls=[["instances"], ["instance_activity", 1]]) == [
        [],
        "Refused: Not Supported",
    ]


def test_the_cards_of_a_machine() -> None:
    assert probe("devices 2", present=True) == [UUID.format(0), UUID.format(1)]
    assert probe("devices 0", present=True) == []
    assert probe("nvmlInit !9", present=True) == "GpuGone: Driver Not Loaded"
