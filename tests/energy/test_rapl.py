"""RAPL on a made powercap tree."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.rapl import RaplMeter, advance_uj
from energy.reading import MeterUnavailable, Reading, Unknown

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    return path / "energy_uj"


@given(st.integers(0, RANGE_UJ - 1), st.integers(0, RANGE_UJ - 1))
def test_one_turn_of_the_counter_loses_nothing(before_uj: int, spent_uj: int) -> None:
    assert advance_uj(before_uj, (before_uj + spent_uj) % RANGE_UJ, RANGE_UJ) == spent_uj


def test_packages_are_summed_and_each_joule_counted_once(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", RANGE_UJ - 10_000_000)
    for folder, name in [
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:2", "psys"),
        ("intel-rapl-mmio:0", "package-0"),
    ]:
        zone(tmp_path, folder, name, 0)
    now_s = 100.0
    meter = RaplMeter(tmp_path, lambda: now_s)
    assert (meter.device, meter.readable) == ("package-0+package-1", True)
    assert meter.read() == Unknown("the first window is not over", 100.0)
    now_s = 102.0
    first.write_text("65000000\n")
    second.write_text("30000000\n")  # has turned
    assert meter.opening_j == (RANGE_UJ - 5_000_000) / 1e6
    assert meter.read() == Reading((RANGE_UJ + 95_000_000) / 1e6, 50.0, "rapl", 102.0)


READ_TEXT = Path.read_text


def for_root_only(path: Path) -> str:
    if path.name == "energy_uj":
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return READ_TEXT(path)


def unknown(meter: RaplMeter) -> str:
    outcome = meter.read()
    assert isinstance(outcome, Unknown)
    return outcome.reason


def test_what_cannot_be_read_is_unknown_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    now_s = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", for_root_only)  # chmod would not stop tests that run as root
        meter = RaplMeter(tmp_path, lambda: now_s)
        assert not meter.readable
        assert meter.opening_j is None
        assert unknown(meter) == f"permission: {counter} may not be read by this user"
    now_s = 5.0
    counter.write_text("40000000")
    assert unknown(meter) == "the first window is not over"
    now_s = 6.0
    counter.write_text("70000000")
    assert meter.read() == Reading(70.0, 30.0, "rapl", 6.0)
    counter.write_text("")
    assert "not a number" in unknown(meter)
    counter.unlink()
    assert unknown(meter) == f"{counter}: No such file or directory"


def test_machine_without_packages_is_refused(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(MeterUnavailable, match="no CPU package under"):
        RaplMeter(tmp_path, lambda: 0.0)
    with pytest.raises(MeterUnavailable, match="no CPU package under"):
        RaplMeter(tmp_path / "absent", lambda: 0.0)
