"""`minwatt serve` over TLS: served to whom its authority knows, certificates renewed while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import trustme

from minwatt.cli import main
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

CLIENT = ("team-a.example",)


def issue(folder: Path) -> trustme.CA:
    """A new authority and the server's files of it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (folder / "new.key").write_bytes(issued.private_key_pem.bytes())
    (folder / "new.crt").write_bytes(issued.cert_chain_pems[0].bytes())
    (folder / "new.ca").write_bytes(authority.cert_pem.bytes())
    for kind in ("key", "crt", "ca"):
        (folder / f"new.{kind}").replace(folder / f"tls.{kind}")
    return authority


def credentials(authority: trustme.CA) -> grpc.ChannelCredentials:
    issued = authority.issue_cert(*CLIENT)
    key, chain = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return [
        "--tls-cert",
        f"{tmp_path}/tls.crt",
        "--tls-key",
        f"{tmp_path}/tls.key",
        "--tls-client-ca",
        f"{tmp_path}/tls.ca",
    ]


async def answered(channel: grpc.aio.Channel) -> int:
    reply = await TextInferenceStub(channel).Classify(
        pb.ClassifyRequest(texts=["hello"]), timeout=20, wait_for_ready=True
    )
    return len(reply.results)


async def test_a_replica_serves_over_tls_and_takes_new_certificates(
    tiny_model: Path, tmp_path: Path, flags: list[str]
) -> None:
    first = issue(tmp_path)
    with ReplicaProcess(tiny_model, *flags) as replica:
        async with grpc.aio.secure_channel(replica.target, credentials(first)) as old:
            assert await answered(old) == 1
            second = issue(tmp_path)
            async with grpc.aio.secure_channel(replica.target, credentials(second)) as new:
                load = asyncio.gather(*(answered(old) for _ in range(50)))
                assert await answered(new) == 1  # waits until the new authority is in force
                assert await load == [1] * 50
        replica.terminate()
        assert await asyncio.to_thread(replica.wait) == 0
        assert "new certificates are in force" in replica.stderr
        assert "Traceback" not in replica.stderr


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        (slice(2), "minwatt serve: options: tls-key: missing; a certificate and its key go together"),
        (slice(4, 6), "minwatt serve: options: tls-client-ca: needs tls-cert and tls-key"),
        (slice(6), "minwatt serve: tls-cert = {folder}/tls.crt: can't be read (No such file or directory)"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    tiny_model: Path,
    tmp_path: Path,
    flags: list[str],
    kept: slice,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", "--model", str(tiny_model), "--port", "0", "--metrics-port", "0", *flags[kept]])
    assert left.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert printed == line.format(folder=tmp_path)
