"""The replica's meter: what it says, what it doesn't know, and where its joules went."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy import Reading, Telemetry, Unknown
from energy.reading import NO_TELEMETRY
from minwatt.v1.errors import UsageError
from service.power import PowerBook, meter_of


class Script:
    """A meter that says what it is told to."""

    source, device = "nvml", "GPU-1"
    idle_w, busy_w_per_core, opening_j = 1.0, None, 0.0

    def __init__(self, *readings: Reading | Unknown) -> None:
        self._readings = list(readings)

    def read(self) -> Reading | Unknown:
        return self._readings.pop(0)

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None:
        pass


async def test_joules_go_to_start_up_requests_and_idle_time() -> None:
    readings = [
        Reading(joules, 10.0, "nvml", at_s) for joules, at_s in ((5.0, 0.0), (15.0, 1.0), (20.0, 2.0))
    ]
    book = PowerBook(Script(*readings), engine_threads=1)
    await book.share()
    assert book.charge(0.5, [1, 3]) is None  # no price is known in the first window
    await book.read()
    joules = book.charge(0.25, [1, 3])
    assert joules is not None
    assert joules[1] == pytest.approx(3 * joules[0])
    await book.read()
    totals = book.totals
    parts = (totals.start_up_j, totals.idle_j, totals.requests_j, totals.unpriced_j, totals.carry_j)
    assert sum(parts) == pytest.approx(20.0)
    assert (totals.start_up_j, totals.idle_j, totals.unpriced_j) == (5.0, 2.0, 9.0)
    assert totals.requests_j == pytest.approx(sum(joules))


async def test_unknown_watts_have_a_reason_and_no_number() -> None:
    book = PowerBook(Script(Unknown("the GPU is lost", 0.0)), engine_threads=1)
    assert book.message().unknown_reason == "not read yet"
    await book.share()
    told = book.message()
    assert (told.source, told.unknown_reason, told.device) == ("unknown", "the GPU is lost", "GPU-1")
    assert not told.HasField("watts")
    assert not told.HasField("joules_total")
    assert not told.HasField("gpu_utilization")
    assert book.charge(1.0, [1]) is None


async def test_a_meter_that_goes_back_does_not_end_the_readings() -> None:
    book = PowerBook(Script(Reading(5.0, 1.0, "nvml", 0.0), Reading(4.0, 1.0, "nvml", 1.0)), engine_threads=1)
    await book.share()
    await book.read()
    assert isinstance(book.last, Unknown)
    assert book.source == "unknown"


def test_a_bad_meter_is_the_users_mistake(tmp_path: Path) -> None:
    for spec in ("sundial", "modelled:idle_w=-1", f"replayed:{tmp_path / 'missing.csv'}"):
        with pytest.raises(UsageError):
            meter_of(spec)
