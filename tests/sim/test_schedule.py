"""The dynamic programming against brute force, and its laws."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.simulate.schedule import Devices, Slots, cheapest, cheapest_choices


@st.composite
def instances(draw):
    levels, choices = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cost = st.integers(0, 20).map(float)
    table = np.array(draw(st.lists(cost, min_size=levels * choices, max_size=levels * choices)))
    slots = np.array(draw(st.lists(st.integers(0, levels - 1), min_size=1, max_size=5)))
    again = draw(cost)
    parked = draw(st.integers(0, 4).map(float))
    devices = Devices(draw(st.integers(0, 5)), again, again + draw(cost), parked)
    return table.reshape(levels, choices), slots, devices


def total(table, levels, devices, choices):
    """Slot by slot, by the definition."""
    joules, there, before = 0.0, devices.first, devices.first
    for level, choice in zip(levels, choices, strict=True):
        new = max(0, choice - there)
        there += new
        joules += devices.new * new + devices.again * (max(0, choice - before) - new)
        joules += table[level, choice] + devices.parked * (there - choice)
        before = choice
    return joules


@given(instances())
def test_is_what_trying_everything_finds(instance):
    table, levels, devices = instance
    every = product(range(table.shape[1]), repeat=len(levels))
    least = min(total(table, levels, devices, choices) for choices in every)
    slots = Slots.of(levels)
    assert cheapest(table[None], slots, devices)[0] == pytest.approx(least)
    taken = np.repeat(cheapest_choices(table, slots, devices), slots.lengths.astype(int))
    assert total(table, levels, devices, taken) == pytest.approx(least)


@given(instances())
def test_dearer_slots_starts_or_parking_never_cost_less(instance):
    table, levels, devices = instance
    slots = Slots.of(levels)
    plain, dearer = cheapest(np.stack([table, table + 1.0]), slots, devices)
    assert dearer == pytest.approx(plain + len(levels))
    for more in (
        replace(devices, again=devices.again + 1, new=devices.new + 1),
        replace(devices, parked=devices.parked + 1),
    ):
        assert cheapest(table[None], slots, more)[0] >= plain - 1e-9


@pytest.mark.parametrize("parked", [0.0, 0.2])
@pytest.mark.parametrize(("first", "start"), [(0, 0.0), (3, 2.5), (1, 30.0)])
def test_the_way_back_of_a_long_schedule(first, start, parked):
    rng = np.random.default_rng(7)
    table, levels = rng.uniform(0, 10, (5, 4)), rng.integers(0, 5, 3000)
    devices = Devices(first, start, start + 1, parked)
    slots = Slots.of(levels)
    taken = np.repeat(cheapest_choices(table, slots, devices), slots.lengths.astype(int))
    assert total(table, levels, devices, taken) == pytest.approx(cheapest(table[None], slots, devices)[0])


@given(st.integers(1, 30), st.integers(0, 30))
def test_many_devices_more_are_a_bound(choices, first):
    rng = np.random.default_rng(choices)
    table, levels = rng.uniform(0, 10, (3, choices)), rng.integers(0, 3, 30)
    devices = Devices(first, 1.0, 2.0, 0.3)
    slots = Slots.of(levels)
    taken = np.repeat(cheapest_choices(table, slots, devices), slots.lengths.astype(int))
    assert cheapest(table[None], slots, devices)[0] <= total(table, levels, devices, taken) + 1e-9


def test_runs_of_equal_slots():
    slots = Slots.of(np.array([2, 2, 0, 1, 1, 1]))
    assert slots.levels.tolist() == [2, 0, 1]
    assert slots.lengths.tolist() == [2, 1, 3]
    assert len(Slots.of(np.zeros(0, dtype=np.int64)).levels) == 0


def test_a_short_lull_is_not_worth_a_start():
    table = np.array([[1.0, 2.0], [50.0, 2.0]])  # little traffic; much
    lull = Slots.of(np.array([1, 0, 0, 0, 1]))
    assert cheapest_choices(table, lull, Devices(1, 4.0, 4.0, 0.0)).tolist() == [1, 1, 1]
    assert cheapest_choices(table, lull, Devices(1, 2.0, 2.0, 0.0)).tolist() == [1, 0, 1]
    assert cheapest_choices(table, lull, Devices(1, 2.0, 2.0, 0.5)).tolist() == [1, 1, 1]


def test_a_new_device_is_parked_for_ever_after():
    table = np.array([[0.0, 5.0], [30.0, 0.0]])
    brief = Slots.of(np.array([0, 1] + [0] * 20))
    assert cheapest_choices(table, brief, Devices(0, 5.0, 5.0, 1.0)).tolist() == [0, 1, 0]
    assert cheapest_choices(table, brief, Devices(0, 5.0, 5.0, 2.0)).tolist() == [0, 0, 0]
