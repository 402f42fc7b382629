"""What is granted is within the card's range and the policy's, both."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nodeagent.bounds import Bounds, CardRange, NotAllowed
from nodeagent.leases import Setting
from nodeagent.policy import CardPolicy

CARD = CardRange((300, 600, 900, 1200), (100.0, 400.0))
MHZ = st.none() | st.integers(1, 2000)
WATTS = st.none() | st.integers(1, 600)


def card_policy(
    low_mhz: int | None = None,
    high_mhz: int | None = None,
    low_w: int | None = None,
    high_w: int | None = None,
) -> CardPolicy:
    return CardPolicy.model_validate(
        {
            "smClock": {"minMHz": low_mhz, "maxMHz": high_mhz},
            "powerLimit": {
                "min": None if low_w is None else f"{low_w}W",
                "max": None if high_w is None else f"{high_w}W",
            },
        }
    )


@given(
    st.tuples(MHZ, MHZ),
    st.tuples(WATTS, WATTS),
    st.none() | st.integers(1, 10_000),
    st.none() | st.floats(1, 10_000),
)
def test_nothing_outside_of_card_and_policy_is_granted(
    mhz: tuple[int | None, int | None],
    watts: tuple[int | None, int | None],
    clock_mhz: int | None,
    limit_w: float | None,
) -> None:
    assume((mhz[0] or 0) <= (mhz[1] or 9999) and (watts[0] or 0) <= (watts[1] or 9999))
    steps = [step for step in CARD.clocks_mhz if (mhz[0] or 0) <= step <= (mhz[1] or 9999)]
    low_w, high_w = max(100, watts[0] or 0), min(400, watts[1] or 9999)
    bounds = Bounds.of(CARD, card_policy(*mhz, *watts))
    try:
        granted = bounds.within(Setting(clock_mhz, limit_w))
    except NotAllowed:
        assert (clock_mhz is not None and not steps) or (limit_w is not None and low_w > high_w)
        return
    assert (granted.clock_mhz is None) == (clock_mhz is None)
    assert (granted.limit_w is None) == (limit_w is None)
    if granted.clock_mhz is not None and clock_mhz is not None:
        assert granted.clock_mhz in steps
        assert abs(granted.clock_mhz - clock_mhz) == min(abs(step - clock_mhz) for step in steps)
    if granted.limit_w is not None and limit_w is not None:
        assert granted.limit_w == min(max(limit_w, low_w), high_w)


@pytest.mark.parametrize(
    ("card", "policy", "wish", "line"),
    [
        (
            CARD,
            card_policy(low_mhz=1500, high_mhz=2000),
            Setting(900),
            "sm_clock_mhz = 900: the node's policy allows 1500 to 2000 MHz, the card has 300 to 1200",
        ),
        (
            CardRange(),
            card_policy(low_mhz=600),
            Setting(900),
            "sm_clock_mhz = 900: the card doesn't list its clocks, and the node's policy names no lowest and "
            "highest",
        ),
        (
            CARD,
            card_policy(high_w=50),
            Setting(None, 200.0),
            "power_limit_w = 200: the node's policy allows any to 50 W, the card takes 100 to 400",
        ),
        (
            CardRange((300,)),
            card_policy(),
            Setting(None, 200.0),
            "power_limit_w = 200: the card takes no power limit",
        ),
        (
            CARD,
            CardPolicy(may=frozenset({"powerLimit"})),
            Setting(900),
            "sm_clock_mhz = 900: the node's policy lets nobody set clocks",
        ),
        (
            CARD,
            CardPolicy(may=frozenset({"smClock"})),
            Setting(None, 200.0),
            "power_limit_w = 200: the node's policy lets nobody set power limits",
        ),
    ],
)
def test_what_is_not_allowed_says_what_is(
    card: CardRange, policy: CardPolicy, wish: Setting, line: str
) -> None:
    with pytest.raises(NotAllowed) as refusal:
        Bounds.of(card, policy).within(wish)
    assert str(refusal.value) == line


def test_of_two_clocks_as_near_the_faster_is_taken() -> None:
    assert Bounds.of(CARD, card_policy()).within(Setting(750)) == Setting(900)


def test_a_card_that_lists_no_clocks_goes_by_the_policy_alone() -> None:
    bounds = Bounds.of(CardRange(), card_policy(low_mhz=600, high_mhz=1000))
    assert [bounds.within(Setting(asked)).clock_mhz for asked in (1, 777, 5000)] == [600, 777, 1000]
