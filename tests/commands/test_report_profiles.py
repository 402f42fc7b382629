"""`minwatt report compare` of profiles: noise is noise, a slower replica is slower, meters are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.commands.compare_profiles import comparison
from minwatt.resources import resource
from minwatt.v1.errors import UsageError
from report.comparison import Change, Comparison
from scaler.fit import fit
from scaler.profile import MeterNote, Profile, load_profile
from tests.scaler.measured_points import START_UP, SUBJECT, idle, point

NAMES = ("a.yaml", "b.yaml")
DRAWS = 60  # are enough to tell a half from nothing
A100 = resource("profiles/reference/a100-bert-base-int8.yaml")


def measured(seed: int, slower: float = 1.0, noise: float = 0.05) -> Profile:
    """Points of 2 ms and 0.1 ms a token, off by some 5% each."""
    draw = np.random.default_rng(seed)

    def off() -> float:
        return float(1 + noise * draw.standard_normal())

    rows = [idle(0.8 * off())]
    for texts in (1, 2, 4, 8, 16):
        compute_s = slower * (0.002 + 0.0001 * 20 * texts)
        most_rps = 0.9 * texts / compute_s
        for share in (0.3, 0.6, 1.2):
            rps = share * most_rps
            done = min(rps, most_rps)
            watts = (0.8 + 3.0 * done / texts * compute_s) * off()
            loaded = point(done, texts, compute_s * off(), watts)
            rows.append(loaded.model_copy(update={"max_batch_texts": texts, "offered_rps": rps}))
    return fit(SUBJECT, rows, START_UP, slo_latency_s=0.05)


def named(found: Comparison, part: str) -> dict[str, Change]:
    (changes,) = (one.changes for one in found.parts if one.name == part)
    return {change.name: change for change in changes}


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 1000))
def test_a_profile_does_not_differ_from_itself(seed: int) -> None:
    one = measured(seed)
    verdicts = {
        change.verdict for part in comparison(NAMES, one, one, 0, DRAWS).parts for change in part.changes
    }
    assert verdicts <= {"within noise", "the same"}


def test_a_replica_that_is_slower_is_told_from_one_that_was_measured_twice() -> None:
    again, slower = (comparison(NAMES, measured(1), measured(2, by), 0, DRAWS) for by in (1.0, 1.5))
    batches = "int8: full batches of texts of 20 tokens"
    assert {named(slower, batches)[f"{texts}: time"].verdict for texts in (1, 4, 16)} == {"worse"}
    assert named(slower, "int8: fitted")["a padded token"].verdict == "worse"
    calm = [named(again, batches)[f"{texts}: time"].verdict for texts in (1, 2, 4, 8, 16)]
    assert calm.count("within noise") >= 4
    most = named(slower, "int8, texts of 20 tokens: measured")["batch ≤ 16, 5 ms: most"]
    assert most.verdict == "worse"
    assert most.low is not None


def test_the_same_seed_the_same_interval() -> None:
    assert comparison(NAMES, measured(1), measured(2), 3, DRAWS) == comparison(
        NAMES, measured(1), measured(2), 3, DRAWS
    )


def test_a_reference_has_no_spread() -> None:
    reference = load_profile(A100)
    line = reference.variants[0].service_time
    slower = reference.variants[0].model_copy(
        update={"service_time": line.model_copy(update={"alpha_s": 2 * line.alpha_s})}
    )
    found = comparison(NAMES, reference, reference.model_copy(update={"variants": (slower,)}), 0, DRAWS)
    assert named(found, "int8: fitted")["a batch's fixed part"].verdict == "no spread"
    assert named(found, "int8: fitted")["idle"].verdict == "the same"
    assert found.watts == "assumed"
    assert "a reference profile has no points: no spread is known" in found.notes


def test_watts_of_other_meters_are_not_compared() -> None:
    metered = measured(2).model_copy(update={"meter": MeterNote(source="nvml")})
    found = comparison(NAMES, measured(1), metered, 0, DRAWS)
    assert {"W", "J"}.isdisjoint(change.unit for part in found.parts for change in part.changes)
    assert found.watts == "modelled and measured (nvml)"
    assert any(note.startswith("not compared: watts and joules") for note in found.notes)


def test_no_variant_in_common_is_one_line() -> None:
    one = measured(1)
    renamed = one.variants[0].model_copy(update={"name": "fp16"})
    other = one.model_copy(update={"variants": (renamed,), "points": ()})
    with pytest.raises(UsageError, match=r"b\.yaml: has no variant of a\.yaml; allowed: one of int8"):
        comparison(NAMES, one, other, 0, DRAWS)
