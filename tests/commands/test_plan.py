"""`minwatt plan`: the fleet for a steady rate, in text and JSON, and mistakes as one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minwatt import cli
from minwatt.resources import resource

POLICY = resource("examples/policy-a100.yaml")
PROFILE = resource("profiles/reference/a100-bert-base-int8.yaml")


def flags(*more: str) -> list[str]:
    return ["plan", "--policy", str(POLICY), "--profile", str(PROFILE), *more]


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


def test_the_chosen_fleet_holds_the_slo_at_the_fewest_watts_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, flags("--rps", "50000", "--upper-rps", "60000", "--json"))
    found = json.loads(out)
    (pool,) = found["pools"]
    chosen = pool["fleet"]
    assert code == 0
    assert pool["share"] == 1
    assert chosen["holds_slo"]
    assert chosen["within_budget"]
    assert chosen["idle_w"] + chosen["busy_w"] == pytest.approx(chosen["watts"])
    assert chosen["joules_per_request"] == pytest.approx(chosen["watts"] / 50_000)
    sizes = [one for one in found["alternatives"] if one["what"].endswith("replicas") and one["holds_slo"]]
    assert sizes
    assert all(one["watts"] >= 0.99 * chosen["watts"] for one in sizes)
    assert "watts assumed" in pool["bases"]


def test_a_higher_upper_rate_never_takes_fewer_watts(capsys: pytest.CaptureFixture[str]) -> None:
    watts = []
    for upper in ("20000", "40000", "80000"):
        _, out, _ = run(capsys, flags("--rps", "20000", "--upper-rps", upper, "--json"))
        watts.append(json.loads(out)["watts"])
    assert watts == sorted(watts)


def test_a_fleet_that_can_not_keep_up_has_no_joules_a_request_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, flags("--rps", "1e8", "--json"))
    found = json.loads(out)
    assert code == 1
    assert not found["holds_slo"]
    assert found["joules_per_request"] is None
    assert found["pools"][0]["fleet"]["joules_per_request"] is None
    code, out, _ = run(capsys, flags("--rps", "1e8"))
    assert code == 1
    assert "J a request" not in out
    assert "no fleet that the policy allows holds the SLO" in out.partition("\n")[0]


def test_no_figure_is_cut_to_fit_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = run(capsys, flags("--rps", "50000"))
    assert "…" not in out


def test_the_text_names_fleet_watts_and_what_they_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, flags("--rps", "50000"))
    assert code == 0
    for part in ("50000 requests/s", "replicas", "no batching delay", "clocks left alone", "watts assumed"):
        assert part in out


def test_a_load_beyond_every_fleet_is_a_bad_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, flags("--rps", "5000000", "--json"))
    assert code == 1
    assert not json.loads(out)["holds_slo"]


T4 = ["--profile", str(resource("profiles/reference/t4-bert-base-int8.yaml"))]


def test_pools_share_the_requests_at_no_more_watts_than_either_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, flags(*T4, "--rps", "30000", "--json"))
    found = json.loads(out)
    assert code == 0
    assert sum(pool["share"] for pool in found["pools"]) == pytest.approx(1)
    fleets = [pool["fleet"] for pool in found["pools"] if pool["fleet"]]
    assert sum(fleet["watts"] for fleet in fleets) == pytest.approx(found["watts"])
    assert all(fleet["holds_slo"] for fleet in fleets)
    alone = [one["watts"] for one in found["alternatives"] if one["holds_slo"]]
    assert alone
    assert all(found["watts"] <= 1.001 * watts for watts in alone)


def test_pools_that_cannot_hold_the_load_together_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, flags(*T4, "--rps", "5000000"))
    assert code == 1
    assert "more than all pools hold within the SLO" in out


def test_pools_must_be_of_one_version_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    text = PROFILE.read_text()
    assert "model_version: reference" in text
    other.write_text(text.replace("model_version: reference", "model_version: '2'"))
    code, _, err = run(capsys, flags("--profile", str(other), "--rps", "10"))
    assert code == 2
    assert "model_version = '2'" in err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--rps", "0"], "--rps = 0: allowed: a number above 0"),
        (["--rps", "10", "--upper-rps", "5"], "--upper-rps = 5: allowed: --rps (10) or more"),
        (["--rps", "10", "--clock-set", "B"], "--clock-set = 'B': allowed: A, conservative"),
        (["--rps", "10", "--profile", "DIR/none.yaml"], "none.yaml: can't be read"),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], named: str
) -> None:
    code, out, err = run(capsys, flags(*(part.replace("DIR", str(tmp_path)) for part in more)))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert named in err
