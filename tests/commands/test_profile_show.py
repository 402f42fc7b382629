"""What `minwatt profile show` says of a profile, and where it says each figure is from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt import cli
from minwatt.commands.profile_document import document
from minwatt.commands.profile_rows import batch_rows, clock_figures, figures, sweeps, watts_basis
from minwatt.commands.profile_show import bar
from minwatt.resources import default_policy, default_profile, resource
from report.page import as_html
from scaler.fit import fit
from scaler.profile import MeterNote, Profile, load_profile
from tests.report.made import MADE_BY
from tests.scaler.measured_points import START_UP, SUBJECT, idle, point

A100 = resource("profiles/reference/a100-bert-base-int8.yaml")
SWEPT = fit(
    SUBJECT,
    [
        row
        for variant, slower in (("int8", 1.0), ("fp16", 2.0))
        for mhz, factor in ((1410, 1.0), (940, 1.5))
        for row in (
            idle(0.8, variant=variant, sm_clock_mhz=mhz),
            point(10, 1, 0.01 * slower * factor, 1.2, variant=variant, sm_clock_mhz=mhz),
            point(40, 2, 0.015 * slower * factor, 2.4, variant=variant, sm_clock_mhz=mhz),
        )
    ],
    START_UP,
    slo_latency_s=0.05,
)


def page_of(profile: Profile) -> str:
    return as_html(document(profile, MADE_BY))


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", "show", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_measured_profile_shows_its_points_and_says_whose_the_watts_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile = load_profile(default_profile())
    said = shown([str(default_profile())], capsys)
    assert re.search(r"a batch's fixed part +\S+ ms +measured", said)
    assert re.search(r"idle +\S+ W +modelled", said)
    assert f"texts of {profile.points[-1].text_tokens:.0f} tokens" in said
    assert "Watts: modelled" in said


def test_no_figure_is_cut_to_fit_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in shown([str(default_profile())], capsys)


def test_a_reference_profile_is_never_called_measured(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown([str(A100)], capsys)
    assert re.search(r"a batch's fixed part +0.51 ms +published", said)
    assert re.search(r"during tokens +331.00 W +assumed", said)
    assert re.search(r"parked +45.00 W +assumed", said)
    assert re.search(r"conservative: 1060 MHz +time × 1.33, busy W × 0.7 +assumed", said)
    assert "not measured" in said
    assert "measured" not in said.replace("not measured", "")


def test_json_is_the_profile_and_what_to_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown([str(default_profile()), "--json"], capsys))
    assert found.pop("doubts") == list(load_profile(default_profile()).doubts())
    assert found.pop("provenance")["watts"] == "modelled"
    assert found == load_profile(default_profile()).model_dump(mode="json")


def test_a_poor_fit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = default_profile().read_text()
    poor = tmp_path / "poor.yaml"
    poor.write_text(re.sub(r"residual_fraction: 0\.\d+", "residual_fraction: 0.4", text, count=1))
    assert "the fit of the service time is poor (40% off)" in " ".join(shown([str(poor)], capsys).split())
    assert "is poor (40% off)" in page_of(load_profile(poor))


def test_the_page_opens_without_a_network_and_has_every_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, markdown = tmp_path / "new" / "profile.html", tmp_path / "profile.md"
    shown([str(default_profile()), "--html", str(page), "--markdown", str(markdown)], capsys)
    text = page.read_text()
    assert "| a batch's fixed part | 2.19 ms | measured | 8.7% |" in markdown.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    for title in (
        "Measured and fitted compute, int8",
        "Energy a text",
        "Watts, texts of 8 tokens",
        "p99 at the server, texts of 8 tokens",
    ):
        assert f"<h2>{title}</h2>" in text
    reference = page_of(load_profile(A100))
    assert "<h2>Time of a batch</h2>" in reference
    assert "p99 at the server" not in reference


def test_variants_and_clocks_are_told_apart() -> None:
    assert [*sweeps(SWEPT)] == [
        f"{variant}, {mhz} MHz, texts of 20 tokens" for variant in ("int8", "fp16") for mhz in (1410, 940)
    ]
    titles = [figure.title for figure in figures(SWEPT)]
    assert {"int8: idle", "fp16: idle"} < {*titles}
    assert [figure.title for figure in clock_figures(SWEPT)] == ["measured: 1410 MHz", "measured: 940 MHz"]
    page = page_of(SWEPT)
    assert "measured at 940 MHz" in page
    assert "<h2>Measured and fitted compute, fp16</h2>" in page


def test_the_meter_stands_beside_measured_watts() -> None:
    assert watts_basis(SWEPT, "measured") == "modelled"
    metered = SWEPT.model_copy(update={"meter": MeterNote(source="nvml")})
    assert watts_basis(metered, "measured") == "measured (nvml)"
    assert watts_basis(metered, "assumed") == "assumed"


def test_batches_go_up_to_what_was_measured_or_may_be_held() -> None:
    assert [row.texts for row in batch_rows(SWEPT)] == [1, 2, 4, 8, 16]
    rows = batch_rows(load_profile(A100))
    assert [row.texts for row in rows] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert rows[0].joules_per_text / rows[6].joules_per_text == pytest.approx(3.1, abs=0.05)


@given(st.floats(-1, 3))
def test_a_bar_is_never_longer_than_full(fraction: float) -> None:
    assert len(bar(fraction)) <= len(bar(1.0))
    assert bar(0.0) == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["none.yaml"], "none.yaml: can't be read"),
        ([str(default_policy())], "policy.yaml: apiVersion: unknown field; allowed: format, kind"),
        ([], "Missing argument"),
        ([str(A100), "--html", "/proc/none/page.html"], "--html = '/proc/none/page.html': can't be written"),
    ],
)
def test_a_bad_file_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], named: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", "show", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said
