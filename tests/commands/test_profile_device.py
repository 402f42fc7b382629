"""Whose name a profile carries, and whose watts."""

from __future__ import annotations

import pytest

from energy.gpu import GpuGone
from minwatt.commands import profile_device
from minwatt.commands.profile_device import find_device
from minwatt.v1.errors import UsageError


class CardMeter:
    source, device = "nvml", "GPU-1"

    def close(self) -> None: ...


class NamedGpu:
    name = "NVIDIA A100-PCIE-40GB"

    @classmethod
    def open(cls, selector: str) -> NamedGpu:
        if selector != "GPU-1":
            raise GpuGone(f"GPU {selector!r}: Not Found")
        return cls()

    def close(self) -> None: ...


def test_a_cpu_s_watts_are_modelled_with_their_parameters() -> None:
    device = find_device("cpu", "modelled:idle_w=1,busy_w_per_core=5")
    assert device.name.endswith(" cores")
    assert device.card is None
    assert device.meter.source == "modelled"
    assert device.meter.parameters == {"idle_w": 1, "busy_w_per_core": 5}
    assert "not measured" in device.meter.notes


def test_a_card_goes_by_the_name_of_whose_watts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_device, "open_meter", lambda spec: CardMeter())
    monkeypatch.setattr(profile_device, "NvmlGpu", NamedGpu)
    device = find_device("cuda", "auto")
    assert device.name == "NVIDIA A100-PCIE-40GB"
    assert device.meter.source == "nvml"
    assert device.card is not None


def test_a_card_s_joules_are_not_a_process_s() -> None:
    with pytest.raises(UsageError, match="--meter = 'modelled': --provider tensorrt computes on a card"):
        find_device("tensorrt", "modelled")


def test_a_meter_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UsageError, match="--meter: meter = 'replayed:none': No such file"):
        find_device("cpu", "replayed:none")
