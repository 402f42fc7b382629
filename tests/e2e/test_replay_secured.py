"""`minwatt replay` through a door that asks for certificates and keys: let in with them, told why without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme
import yaml

from loadtest.sender import SendOptions, send
from minwatt.channels import Tls, identity
from minwatt.v1.errors import UsageError
from service.keys import new_key
from tests.e2e.replica_process import ReplicaProcess
from tests.e2e.test_replay import Context, evenly, minwatt_replay, serving

LOAD = ("--generate", "constant", "--peak-rps", "20", "--duration", "1s", "--deadline", "20s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority's, a server's and a client's files; a key that is known, and one that isn't."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for who, name in (("server", "127.0.0.1"), ("client", "app.example")):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(folder / f"{who}.pem")
        issued.private_key_pem.write_to_path(folder / f"{who}.key")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    (key, stored), (unknown, _) = new_key(), new_key()
    (folder / "key").write_text(f"{key}\n")
    (folder / "unknown-key").write_text(unknown)
    keys = [{"id": stored.id, "sha256": stored.sha256.hex()}]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": [{"name": "load", "keys": keys}]}))
    return folder


@pytest.fixture(scope="module")
def secured(tiny_model: Path, folder: Path) -> Iterator[ReplicaProcess]:
    flags = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem"]
    flags += ["--tenants", "tenants.yaml"]
    paths = [flag if flag.startswith("--") else str(folder / flag) for flag in flags]
    with ReplicaProcess(tiny_model, *paths) as replica:
        yield replica


def identified(folder: Path, **files: str) -> list[str]:
    chosen = {"tls-ca": "ca.pem", "tls-cert": "client.pem", "tls-key": "client.key", "api-key-file": "key"}
    chosen |= {name.replace("_", "-"): file for name, file in files.items()}
    return [word for name, file in chosen.items() if file for word in (f"--{name}", str(folder / file))]


def test_who_shows_certificate_and_key_is_answered(
    secured: ReplicaProcess, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").write_text("where is my card\n")
    flags = (*LOAD, *identified(folder), "--texts", str(tmp_path / "texts"), "--out", str(tmp_path), "--json")
    code, out, err = asyncio.run(minwatt_replay("--target", secured.target, *flags))
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    assert run["completed"] == run["requests"] == 20
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert (folder / "key").read_bytes().strip() not in written


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"api_key_file": "unknown-key"},
            "UNAUTHENTICATED: the API key is not known here; nothing was measured",
        ),
        ({"api_key_file": ""}, "UNAUTHENTICATED: an API key is needed"),
        ({"api_key_file": "absent"}, "--api-key-file = '{folder}/absent': can't be read (No such file"),
        (
            {"api_key_file": "server.pem"},
            "--api-key-file = '{folder}/server.pem': allowed: a file with the API key alone",
        ),
        ({"tls_ca": "absent"}, "--tls-ca = '{folder}/absent': No such file or directory"),
        ({"tls_ca": "key"}, "--tls-ca = '{folder}/key': no PEM certificate in it"),
        (
            {"tls_key": "server.key"},
            "--tls-key = '{folder}/server.key': not a PEM certificate with its key, unencrypted",
        ),
        ({"tls_cert": ""}, "--tls-cert: missing; a certificate and its key go together"),
    ],
)
async def test_who_is_not_let_in_is_told_in_one_line(
    secured: ReplicaProcess, folder: Path, files: dict[str, str], words: str
) -> None:
    code, out, err = await minwatt_replay("--target", secured.target, *LOAD, *identified(folder, **files))
    said = [line for line in err.splitlines() if line.startswith("minwatt replay: ")]
    assert (code, out, len(said)) == (2, "", 1), err
    assert words.format(folder=folder) in said[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("wrong", ["no TLS", "another authority", "no certificate"])
async def test_a_handshake_that_fails_is_one_line(secured: ReplicaProcess, folder: Path, wrong: str) -> None:
    ca = folder / ("other-ca.pem" if wrong == "another authority" else "ca.pem")
    mine = (folder / "client.pem", folder / "client.key") if wrong != "no certificate" else (None, None)
    tls = None if wrong == "no TLS" else Tls(ca, *mine)
    who = identity([secured.target], tls, None, allow_plaintext_key=False)
    options = SendOptions(connections=1, connect_timeout_s=1.0, identity=who)
    expected = (
        "one that speaks TLS needs --tls-ca" if tls is None else "TLS with a certificate that is trusted"
    )
    with pytest.raises(UsageError, match=expected):
        await send(evenly(10, 0.1), secured.target, options)


async def test_a_key_does_not_leave_this_machine_in_the_clear(folder: Path) -> None:
    key = ("--api-key-file", str(folder / "key"))
    code, _, err = await minwatt_replay("--target", "192.0.2.1:8500", *LOAD, *key)
    assert code == 2
    assert "would travel unencrypted to 192.0.2.1:8500; give --tls or --tls-ca FILE" in err
    tls = ("--tls-ca", str(folder / "ca.pem"), "--allow-plaintext-key")
    code, _, err = await minwatt_replay("--target", "192.0.2.1:8500", *LOAD, *key, *tls)
    assert code == 2
    assert "--allow-plaintext-key: goes with --api-key-file and without TLS" in err


async def test_a_key_that_is_taken_away_meanwhile_is_counted() -> None:
    """What was measured before stays; the rest are failed requests, by their code."""
    asked = 0

    async def revoke(context: Context) -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the API key is not known here")

    async with serving(revoke) as (_, target):
        code, out, err = await minwatt_replay("--target", target, *LOAD, "--json")
    assert code == 1
    (run,) = json.loads(out)["runs"]
    assert run["statuses"] == {"OK": 5, "UNAUTHENTICATED": 15}
    assert "15 requests failed (UNAUTHENTICATED 15)" in err
