"""Which profile a policy gets, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt.resources import default_profile
from minwatt.v1.errors import UsageError
from scaler.kube.policy_object import Problem
from scaler.kube.profiles import Library, read_library, settings_for
from scaler.settings import Settings
from tests.scaler.kube.moments import accepted
from tests.scaler.made_up import profile

GOOD = {"slo": {"latency": "200ms"}, "power": {}}
TEXT = profile(model="support-text", device="T4")
LIBRARY = Library({"text.yaml": TEXT, "other.yaml": profile(model="other", device="T4")})
BOTH = Library({"t4.yaml": TEXT, "a100.yaml": profile(model="support-text", device="A100")})


def test_the_one_of_the_model() -> None:
    found = settings_for(accepted(**GOOD), LIBRARY)
    assert isinstance(found, Settings)
    assert found.profile is TEXT
    assert found.policy.spec.model == "support-text"


def test_none_of_the_model_says_which_models_there_are() -> None:
    found = settings_for(accepted(model="bert", generation=3), LIBRARY)
    assert isinstance(found, Problem)
    assert (found.reason, found.generation, found.infeasible) == ("NoProfile", 3, True)
    assert found.line == (
        "spec.model = 'bert': the controller has no profile of it; it has profiles of other, support-text"
    )


def test_of_several_the_annotation_chooses() -> None:
    found = settings_for(accepted(**GOOD), BOTH)
    assert isinstance(found, Problem)
    assert found.reason == "SeveralProfiles"
    assert "set the annotation minwatt.dev/profile to one of a100.yaml (A100), t4.yaml (T4)" in found.line
    chosen = settings_for(accepted(**GOOD, annotations={"minwatt.dev/profile": "t4.yaml"}), BOTH)
    assert isinstance(chosen, Settings)
    assert chosen.profile is TEXT


def test_an_annotation_that_names_no_profile_says_which_there_are() -> None:
    found = settings_for(accepted(**GOOD, annotations={"minwatt.dev/profile": "h100.yaml"}), BOTH)
    assert isinstance(found, Problem)
    assert found.line == (
        "metadata.annotations[minwatt.dev/profile] = 'h100.yaml': no such profile;"
        " allowed: a100.yaml, t4.yaml"
    )


def test_a_profile_of_another_model_or_an_slo_out_of_reach_is_infeasible() -> None:
    other = settings_for(accepted(**GOOD, annotations={"minwatt.dev/profile": "other.yaml"}), LIBRARY)
    assert isinstance(other, Problem)
    assert (other.reason, "model = 'other'" in other.line) == ("Infeasible", True)
    hasty = settings_for(accepted(slo={"latency": "2ms"}), LIBRARY)
    assert isinstance(hasty, Problem)
    assert hasty.reason == "Infeasible"
    assert hasty.line.startswith("spec.slo.latency = 2ms: no operating point meets it on T4")


def test_a_directory_as_a_config_map_is_mounted(tmp_path: Path) -> None:
    revision = tmp_path / "..2026_11_22"
    revision.mkdir()
    (revision / "text.yaml").write_bytes(default_profile().read_bytes())
    (revision / "broken.yaml").write_text("kind: Profile")
    (tmp_path / "..data").symlink_to(revision.name)
    for name in ("text.yaml", "broken.yaml"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / "README.md").write_text("not a profile")
    library = read_library(tmp_path)
    assert list(library.profiles) == ["text.yaml"]
    assert list(library.unreadable) == ["broken.yaml"]
    assert library.lines[0].startswith("profile text.yaml: support-text on ")
    assert library.lines[1].startswith("not used: ")
    found = settings_for(accepted(annotations={"minwatt.dev/profile": "broken.yaml"}), library)
    assert isinstance(found, Problem)
    assert "broken.yaml: " in found.line


def test_a_directory_without_a_profile_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--profiles = .*: holds no profile: there is no \.yaml file"):
        read_library(tmp_path)
    with pytest.raises(UsageError, match=r"--profiles = .*: can't be read"):
        read_library(tmp_path / "missing")
