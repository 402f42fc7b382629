"""`minwatt policy check`: a summary, JSON for programs, one line for a mistake."""

import json
from pathlib import Path

import pytest

from minwatt import cli
from minwatt.resources import default_policy


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["policy", "check", *arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_json_says_the_same_in_si_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(default_policy()), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["spec"]["slo"]["latency_s"] == pytest.approx(0.1)
    assert document["spec"]["power"]["budget_w"] == 20.0
    assert document["not_acted_on"] == []


def test_variants_and_clocks_show_in_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    text = default_policy().read_text()
    file.write_text(text.replace("[int8]}", "[int8], minAccuracy: 0.9}\n  gpu: {clocks: auto}"))
    assert run(str(file)) == 0
    shown = capsys.readouterr().out
    assert "  variants  int8; of accuracy 0.9 or more\n" in shown
    assert "  clocks    auto: minwatt lowers and raises the card's clock\n" in shown
    assert run(str(file), "--json") == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert spec["variants"] == {"allow": ["int8"], "min_accuracy": 0.9}
    assert spec["gpu"] == {"clocks": "auto"}


def test_two_policies_in_one_file_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    text = default_policy().read_text()
    file.write_text(f"{text}---\n{text}")
    assert run(str(file)) == 2
    begins = text.count("\n") + 1
    said = f"{file}: several YAML documents, the second begins at line {begins}; allowed: one per file\n"
    assert capsys.readouterr().err.endswith(said)


def test_a_mistake_is_one_line_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(default_policy().read_text().replace("min: 1, max: 2", "min: 3, max: 2"))
    assert run(str(file)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "spec.replicas.max = 2" in shown.err
    assert "allowed: replicas.min (3) or more" in shown.err


def test_what_kubernetes_adds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    text = default_policy().read_text()
    file.write_text(text.replace("spec:\n", "spec:\n  targetRef: {name: support-text}\n"))
    assert run(str(file)) == 0
    assert "  on Kubernetes: scales Deployment support-text (apps/v1) in " in capsys.readouterr().out
    named = "metadata: {name: support-text}"
    assert named in text
    annotated = named.replace("}", ", annotations: {minwatt.dev/pause: 'true'}}")
    file.write_text(text.replace(named, annotated))
    assert run(str(file)) == 2
    said = "metadata.annotations[minwatt.dev/pause]: unknown annotation; allowed: minwatt.dev/paused, "
    assert said in capsys.readouterr().err
