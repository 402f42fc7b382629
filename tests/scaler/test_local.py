"""Who leaves, and how a replica is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from scaler.inputs import read_inputs
from scaler.local.command import DoorFiles, ReplicaCommand
from scaler.local.port import SharedPort
from scaler.local.processes import Leaver, choose_leavers
from scaler.operating_point import OperatingPoint
from scaler.profile import Variant, save_profile
from tests.scaler.made_up import profile, variant

POLICY = """
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: tiny}
spec: {model: tiny, slo: {latency: 100ms}, replicas: {max: 2}, variants: {allow: [int8]}}
"""

leavers = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=12).map(
    lambda rows: [Leaver(f"r{age}", ready, in_flight, age) for age, (ready, in_flight) in enumerate(rows)]
)


@given(leavers, st.integers(0, 12))
def test_nobody_who_stays_would_have_left_with_less_harm(replicas: list[Leaver], count: int) -> None:
    chosen = set(choose_leavers(replicas, count))
    assert len(chosen) == min(count, len(replicas))
    going = [one for one in replicas if one.name in chosen]
    for stays in (one for one in replicas if one.name not in chosen):
        for goes in going:
            assert (goes.ready, goes.in_flight, -goes.age) < (stays.ready, stays.in_flight, -stays.age)


def test_a_replica_is_told_the_shared_port_the_bus_and_its_first_point() -> None:
    point = OperatingPoint(1, 8, 2048, 0.0125, 0.1)
    command = ReplicaCommand(
        Path("m"),
        "int8",
        "cpu",
        1,
        "127.0.0.1",
        8500,
        "127.0.0.1:7000",
        "modelled",
        point,
        10.0,
        True,
        Path("agent.sock"),
        DoorFiles(Path("t.yaml"), Path("c.pem"), Path("k.pem")),
    )
    words = command.arguments("replica-1")
    options = words.index("--gpu-clocks") + 1
    flags = dict(zip(words[options::2], words[options + 1 :: 2], strict=True))
    assert words[options - 3 : options] == ["serve", "--reuse-port", "--gpu-clocks"]
    assert (flags["--port"], flags["--scaler"]) == ("8500", "127.0.0.1:7000")
    door = {name: flags.get(name) for name in ("--tenants", "--tls-cert", "--tls-key", "--tls-client-ca")}
    assert list(door.values()) == ["t.yaml", "c.pem", "k.pem", None]
    assert flags["--node-agent"] == "agent.sock"
    assert "--node-agent" not in replace(command, node_agent=None).arguments("replica-1")
    assert (flags["--max-delay"], flags["--slo"], flags["--max-batch-texts"]) == ("12.5ms", "100ms", "8")


def written(tmp_path: Path, *variants: Variant, **changes: object) -> tuple[Path, Path]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    save_profile(profile(*variants, **changes), tmp_path / "profile.yaml")
    return tmp_path / "policy.yaml", tmp_path / "profile.yaml"


def test_policy_and_profile_must_be_of_one_model_and_an_allowed_variant(tmp_path: Path) -> None:
    inputs = read_inputs(*written(tmp_path), 2)
    assert (inputs.settings.limits.min_replicas, inputs.settings.limits.max_replicas) == (2, 2)
    (line,) = inputs.lines
    assert "watts modelled" in line
    with pytest.raises(UsageError, match=r"model = 'other': .* asks for 'tiny'"):
        read_inputs(*written(tmp_path, model="other"))
    with pytest.raises(UsageError, match=r"variants\.allow = \['int8'\]: .* has fp16"):
        read_inputs(*written(tmp_path, variant(name="fp16")))
    with pytest.raises(UsageError, match="--replicas = 0: allowed: 1 to 10000"):
        read_inputs(*written(tmp_path), 0)


def test_what_of_the_policy_has_no_effect_is_said_before_anything_starts(tmp_path: Path) -> None:
    policy, profile_ = written(tmp_path)
    policy.write_text(POLICY.replace("variants:", "carbon: {intensityFile: grid.csv}, variants:"))
    assert read_inputs(policy, profile_).lines[1].startswith("not acted on: carbon: ")


def test_a_name_no_host_can_have_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"--host = 'a\.\.b': allowed: a host's name or address"):
        SharedPort.reserve("a..b", 0)
