"""`minwatt scale`: where replicas are met."""

from __future__ import annotations

import pytest

from minwatt import cli

OF_KUBERNETES = ["--kubernetes", "--lease-namespace", "minwatt-system", "--kubeconfig", "none"]


@pytest.mark.parametrize("beside", [[], OF_KUBERNETES], ids=["alone", "kubernetes"])
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--listen", "127.0.0.1:0", "--bus-redis", "redis://h"],
            "--listen and --bus-redis: replicas join by",
        ),
        (["--bus-redis", "redis://:secret@h:x"], "--bus-redis = redis://…: not a host and a port; allowed:"),
        (["--bus-redis-password-file", "f"], "--bus-redis-password-file: needs --bus-redis"),
        (
            ["--bus-redis", "redis://h", "--bus-redis-password-file", "none"],
            "password: 'none': No such",
        ),
        (["--listen", "nonsense"], "--listen = 'nonsense': allowed: HOST:PORT"),
        (["--bus-token-file", "none"], "--bus-token-file = 'none': No such file"),
        (["--bus-tls-cert", "cert.pem"], "--bus-tls-key: is missing"),
        (["--bus-tls-cert", "no.pem", "--bus-tls-key", "no.pem"], "--bus-tls-cert = no.pem, --bus-tls-key"),
        (["--bus-redis", "redis://h", "--bus-token-file", "f"], "--bus-token-file, --bus-tls-*: of --listen"),
    ],
)
def test_a_mistake_is_one_line(
    flags: list[str], beside: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a cluster too at once, and not when the copy first leads."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["scale", *beside, *flags])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert "secret" not in said


def test_a_fleet_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["scale", "--fleet", "a/b/c"])
    assert exit_.value.code == 2
    line = "--fleet = 'a/b/c': allowed: NAME or NAMESPACE/NAME of letters"
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    "of_a_cluster",
    [
        ["--profiles", "profiles"],
        ["--kubeconfig", "config"],
        ["--context", "dev"],
        ["--namespace", "inference"],
        ["--lease-namespace", "default"],
        ["--lease-name", "mine"],
        ["--identity", "me"],
        ["--health-port", "0"],
        ["--external-scaler", "127.0.0.1:0"],
    ],
    ids=lambda flags: flags[0],
)
def test_what_only_a_cluster_has_is_refused_without_one(
    of_a_cluster: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["scale", *of_a_cluster])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith(f"{of_a_cluster[0]}: with --kubernetes only\n")
