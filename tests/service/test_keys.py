"""API keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keys import NO_KEY, id_of, new_key


def test_a_key_fits_what_is_stored_of_it_and_nothing_else() -> None:
    (key, stored), (other, others) = new_key(), new_key()
    assert id_of(key) == stored.id
    assert stored.fits(key)
    assert not stored.fits(other)
    assert not others.fits(key)
    assert key not in repr(stored)


@given(st.integers(0, 62), st.characters())
def test_a_changed_character_fits_nothing(place: int, character: str) -> None:
    key, stored = new_key()
    changed = key[:place] + character + key[place + 1 :]
    assert stored.fits(changed) == (changed == key)


@given(st.text(st.characters()))
def test_what_people_choose_is_no_key(word: str) -> None:
    assert id_of(word) is None
    assert not NO_KEY.fits(word)


@pytest.mark.parametrize("wrong", ["mw_", "mw_0123456789abcdef_short", "mw_0123456789ABCDEF_" + "a" * 43])
def test_other_forms_are_no_keys(wrong: str) -> None:
    assert id_of(wrong) is None
