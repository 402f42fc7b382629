"""Names of fleets and of their keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.fleet_keys import FleetKeys, digits, fleet_of_channel


def test_all_of_a_fleet_is_in_one_slot_of_a_cluster() -> None:
    keys = FleetKeys.of("shop/support-text")
    assert keys.reports == "minwatt:{shop/support-text}:reports"
    assert {key.split("{")[1].split("}")[0] for key in (keys.reports, keys.point, keys.told)} == {
        "shop/support-text"
    }
    assert fleet_of_channel(keys.told) == "shop/support-text"


@pytest.mark.parametrize("name", ["", "a b", "a{b", "a}b", "a/b/c", "/a", "a/", "-a", "a\n", "ä", "a" * 300])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="allowed: NAME or NAMESPACE/NAME"):
        FleetKeys.of(name)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_numbers_compare_as_their_words_do(one: int, other: int) -> None:
    assert (digits(one) < digits(other)) == (one < other)
    assert int(digits(one)) == one
