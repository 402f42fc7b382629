"""What `minwatt profile` finds out before it measures for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt import cli
from minwatt.commands import profile
from minwatt.commands.measure import Setup
from minwatt.commands.profile_device import Device
from minwatt.v1.errors import UsageError
from scaler.profile import MeterNote


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--out", "DIR"], "is a directory"),
        (["--out", "DIR/file/below.yaml"], "can't be written"),
        (["--out", "DIR/p.yaml", "--loads", "nan"], "--loads = 'nan': allowed: comma-separated numbers"),
        (["--out", "DIR/p.yaml", "--batches", "1.5"], "--batches = '1.5': allowed"),
        (["--out", "DIR/p.yaml", "--delays", "5"], "--delays = '5': allowed: a duration"),
        (["--out", "DIR/p.yaml", "--point", "0s"], "--point = '0s': allowed: a duration above 0"),
        (["--out", "DIR/p.yaml", "--variants", "int8,int3"], "variant = 'int3': not in model directory"),
        (["--out", "DIR/p.yaml", "--provider", "gpu"], "--provider = 'gpu': allowed: cpu, cuda, tensorrt"),
        (["--out", "DIR/p.yaml", "--clocks", "1410,1175"], "--clocks = '1410,1175': allowed: none with"),
        (["--out", "DIR/p.yaml", "--provider", "cuda", "--clocks", "9"], "--clocks = '9': allowed: two"),
        (
            ["--out", "DIR/p.yaml", "--provider", "cuda", "--meter", "modelled"],
            "--meter = 'modelled': --provider cuda computes on a card; allowed: nvml",
        ),
        (["--out", "DIR/p.yaml", "--node-agent", "a.sock"], "--node-agent = 'a.sock': of no use without"),
        (["--out", "DIR/p.yaml", "--meter", "steam"], "--meter: meter = 'steam': allowed: auto"),
        (["--seed", "1", "show", "FILE"], "--seed: goes with measuring, not with show"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], named: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", *(flag.replace("DIR", str(tmp_path)) for flag in flags)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said
    assert not (tmp_path / "p.yaml").exists()


def test_a_measurement_of_something_else_is_not_gone_on_with(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is under way is read before a replica is started."""
    (tmp_path / "p.yaml.points.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", "--model", str(tiny_model), "--out", str(tmp_path / "p.yaml")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "p.yaml.points.jsonl: line 1: model: Field required; remove it or choose another --out" in said


@pytest.mark.parametrize(
    ("flags", "passed"),
    [
        ([], []),
        (["--clocks", "1410,1175"], ["--gpu-clocks"]),
        (["--clocks", "1410,1175", "--node-agent", "/a"], ["--gpu-clocks", "--node-agent", "/a"]),
    ],
)
def test_a_replica_is_told_who_sets_its_clock(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], passed: list[str]
) -> None:
    begun: list[Setup] = []

    async def measure(setup: Setup, *_: object) -> None:
        begun.append(setup)
        raise UsageError("enough")

    monkeypatch.setattr(profile, "find_device", lambda *_: Device("A100", MeterNote(source="nvml"), None))
    monkeypatch.setattr(profile, "measure", measure)
    out = str(tmp_path / "p.yaml")
    with pytest.raises(SystemExit):
        cli.main(["profile", "--model", str(tiny_model), "--out", out, "--provider", "cuda", *flags])
    told = begun[0].serve_flags
    assert list(told[told.index("--engine-threads") + 2 :]) == passed
