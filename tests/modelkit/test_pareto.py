"""The front's laws, and the choice's: within limits, on their front; tighter ones never save joules."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from modelkit.card.pareto import Candidate, Limits, dominates, front, pick, relaxed

SHARES = st.integers(0, 20).map(lambda n: n / 20) | st.floats(0, 1)
JOULES = st.integers(1, 20).map(float) | st.floats(0.001, 1e4)
LATENCIES = st.floats(1e-5, 2.0)
CANDIDATES = st.lists(st.tuples(SHARES, SHARES, st.none() | JOULES, LATENCIES), min_size=1, max_size=8).map(
    lambda rows: [Candidate(f"v{i}", *row) for i, row in enumerate(rows)]
)
LIMITS = st.builds(Limits, st.none() | SHARES, st.none() | SHARES, st.none() | LATENCIES)


def named(candidates: list[Candidate], name: str) -> Candidate:
    return next(one for one in candidates if one.name == name)


@given(CANDIDATES)
def test_nobody_on_the_front_is_dominated_and_everybody_else_is(candidates: list[Candidate]) -> None:
    best = front(candidates)
    on_front = [one for one in candidates if one.name in best]
    for one in candidates:
        dominated = any(dominates(other, one) for other in on_front)
        assert dominated == (one.name not in best and one.joules is not None)
    if any(one.joules is not None for one in candidates):
        assert best
    joules = [named(candidates, name).joules or 0.0 for name in best]
    assert joules == sorted(joules)


@given(CANDIDATES, st.randoms())
def test_the_front_does_not_depend_on_order(candidates: list[Candidate], luck: object) -> None:
    before = set(front(candidates))
    luck.shuffle(candidates)  # type: ignore[attr-defined]
    assert set(front(candidates)) == before


@given(CANDIDATES, LIMITS)
def test_the_choice_is_within_its_limits_and_on_their_front(
    candidates: list[Candidate], limits: Limits
) -> None:
    fit = [
        one
        for one in candidates
        if one.accuracy >= (limits.min_accuracy or 0)
        and one.entity_f1 >= (limits.min_f1 or 0)
        and one.p99_s <= (limits.max_p99_s or 9)
        and one.joules is not None
    ]
    found = pick(candidates, limits)
    assert set(found.reasons) == {one.name for one in candidates}
    assert all(found.reasons.values())
    if not fit:
        assert found.chosen is None
        return
    assert found.chosen == front(fit)[0] or (
        named(fit, found.chosen or "").joules == named(fit, front(fit)[0]).joules
    )
    assert found.chosen in {one.name for one in fit}


@given(CANDIDATES, LIMITS, LIMITS)
def test_tighter_limits_never_take_fewer_joules(
    candidates: list[Candidate], limits: Limits, others: Limits
) -> None:
    tighter = Limits(
        max(limits.min_accuracy or 0.0, others.min_accuracy or 0.0),
        max(limits.min_f1 or 0.0, others.min_f1 or 0.0),
        min(limits.max_p99_s or 9.0, others.max_p99_s or 9.0),
    )
    loose, tight = pick(candidates, limits).chosen, pick(candidates, tighter).chosen
    if tight is not None:
        assert loose is not None
        assert (named(candidates, loose).joules or 0) <= (named(candidates, tight).joules or 0)


@given(CANDIDATES, LIMITS)
def test_what_would_fit_does(candidates: list[Candidate], limits: Limits) -> None:
    for one in candidates:
        moved = relaxed(one, limits)
        assert (moved is None) == (one.joules is None)
        if moved is not None:
            assert pick([one], moved).chosen == one.name
    fit = pick(candidates, limits).chosen
    if fit is not None:
        assert relaxed(named(candidates, fit), limits) == limits


def test_the_reasons_say_what_is_wrong_and_by_how_much() -> None:
    lean = Candidate("int8", 0.93, 0.76, 10.0, 0.005)
    exact = Candidate("fp32", 0.94, 0.77, 25.0, 0.012)
    found = pick([lean, exact], Limits())
    assert found.chosen == "int8"
    assert found.reasons == {
        "int8": "10 J a thousand texts, the fewest of those within the limits",
        "fp32": "2.50 times the joules, for +0.0100 of accuracy",
    }
    found = pick([lean, exact], Limits(min_accuracy=0.935, max_p99_s=0.010))
    assert found.chosen is None
    assert found.reasons == {
        "int8": "accuracy 0.9300 is below 0.935",
        "fp32": "p99 12.00 ms is over 10 ms",
    }
    assert pick([replace(lean, joules=None)], Limits()).reasons == {"int8": "its joules are unknown"}
