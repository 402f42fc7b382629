"""TLS and mTLS with stock grpcio clients: who may connect, who they are, and certificates that change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from minwatt.v1.errors import UsageError
from service import changed_files
from service.front.tls import TlsFiles, identity_of, load
from tests.contract.front_end import PATIENCE_S, FrontEnd, eventually, path

pytestmark = pytest.mark.both_modes


class Authority:
    """Writes what it issues to files."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.root: bytes = self._ca.cert_pem.bytes()

    def files(self, name: str = "server", client_ca: bool = False) -> TlsFiles:
        issued = self._ca.issue_cert("127.0.0.1", "localhost")
        paths = self._folder / f"{name}.crt", self._folder / f"{name}.key", self._folder / f"{name}.ca"
        paths[0].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        paths[1].write_bytes(issued.private_key_pem.bytes())
        paths[2].write_bytes(self.root)
        return TlsFiles(paths[0], paths[1], paths[2] if client_ca else None)

    def client(self, *names: str, common_name: str | None = None) -> tuple[bytes, bytes]:
        """Key and certificate."""
        issued = self._ca.issue_cert(*names, common_name=common_name)
        return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def others(tmp_path: Path) -> Authority:
    (tmp_path / "others").mkdir()
    return Authority(tmp_path / "others")


@pytest.fixture
def secured(ours: Authority) -> Iterator[FrontEnd]:
    with FrontEnd(tls=ours.files()) as front_end:
        yield front_end


def ask(target: str, credentials: grpc.ChannelCredentials | None, method: str = "Echo") -> bytes:
    channel = (
        grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    )
    with channel:
        reply: bytes = channel.unary_unary(path(method))(b"x", timeout=PATIENCE_S)
        return reply


def may_not_connect(target: str, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        ask(target, credentials)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def trusting(authority: Authority) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.root)


def test_a_client_that_trusts_the_authority_is_served(secured: FrontEnd, ours: Authority) -> None:
    assert ask(secured.target, trusting(ours)) == b"x"
    assert ask(secured.target, trusting(ours), "Identity") == b"None"


def test_who_trusts_another_or_speaks_plain_is_not(
    secured: FrontEnd, ours: Authority, others: Authority
) -> None:
    may_not_connect(secured.target, trusting(others))
    may_not_connect(secured.target, None)
    assert ask(secured.target, trusting(ours)) == b"x"


async def test_many_calls_and_large_ones_go_over_tls(secured: FrontEnd, ours: Authority) -> None:
    async with grpc.aio.secure_channel(secured.target, trusting(ours)) as channel:
        echo = channel.unary_unary(path("Echo"))
        large = bytes(200_000)
        assert await asyncio.gather(*(echo(large) for _ in range(100))) == [large] * 100


def test_mutual_tls_tells_who_calls(ours: Authority, others: Authority) -> None:
    with FrontEnd(tls=ours.files(client_ca=True)) as front_end:

        def credentials(
            issuer: Authority, *names: str, common_name: str | None = None
        ) -> grpc.ChannelCredentials:
            return grpc.ssl_channel_credentials(ours.root, *issuer.client(*names, common_name=common_name))

        assert ask(front_end.target, credentials(ours, "team-a.example"), "Identity") == b"'team-a.example'"
        named = credentials(ours, "someone@example.com", common_name="team-b")
        assert ask(front_end.target, named, "Identity") == b"'team-b'"
        may_not_connect(front_end.target, credentials(others, "team-a.example"))
        may_not_connect(front_end.target, trusting(ours))


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subjectAltName": (("DNS", "d"), ("URI", "spiffe://x/y"))}, "spiffe://x/y"),
        (
            {"subjectAltName": (("IP Address", "::1"), ("DNS", "d")), "subject": ((("commonName", "c"),),)},
            "d",
        ),
        ({"subject": ((("organizationName", "o"),), (("commonName", "c"),))}, "c"),
        ({"subject": ((("organizationName", "o"),),)}, None),
        ({}, None),
        (None, None),
    ],
)
def test_whom_a_certificate_names(certificate: dict[str, object] | None, name: str | None) -> None:
    assert identity_of(certificate) == name


def test_new_certificates_are_taken_without_dropping_anyone(
    ours: Authority, others: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changed_files, "LOOK_S", 0.05)
    files = ours.files()
    with (
        caplog.at_level(logging.INFO),
        FrontEnd(tls=files) as front_end,
        grpc.secure_channel(front_end.target, trusting(ours)) as before,
    ):
        echo = before.unary_unary(path("Echo"))
        assert echo(b"x", timeout=PATIENCE_S) == b"x"

        files.key.write_text("no key")
        eventually(lambda: "certificates stay as they were: tls-cert = " in caplog.text)
        assert ask(front_end.target, trusting(ours)) == b"x"

        theirs = others.files()
        for old, new in ((files.certificate, theirs.certificate), (files.key, theirs.key)):
            new.replace(old)
        speakers = front_end.processes.count if front_end.processes else 1  # each takes them by itself
        eventually(lambda: caplog.text.count("new certificates are in force") >= speakers)
        assert ask(front_end.target, trusting(others)) == b"x"
        may_not_connect(front_end.target, trusting(ours))
        assert echo(b"x", timeout=PATIENCE_S) == b"x", "an open connection lives on"


def test_files_that_cannot_be_used_are_named(ours: Authority, others: Authority, tmp_path: Path) -> None:
    good, other = ours.files(client_ca=True), others.files()
    garbage, missing, encrypted = tmp_path / "garbage", tmp_path / "missing", tmp_path / "encrypted"
    garbage.write_text("garbage")
    encrypted.write_text(ENCRYPTED_KEY)

    def mistake(files: TlsFiles) -> str:
        with pytest.raises(UsageError) as raised:
            load(files)
        return str(raised.value)

    unreadable = "can't be read (No such file or directory)"
    assert mistake(TlsFiles(missing, good.key)) == f"tls-cert = {missing}: {unreadable}"
    assert mistake(TlsFiles(good.certificate, missing)) == f"tls-key = {missing}: {unreadable}"
    assert (
        mistake(TlsFiles(good.certificate, good.key, missing)) == f"tls-client-ca = {missing}: {unreadable}"
    )
    assert "is a directory" in mistake(TlsFiles(tmp_path, good.key)).lower()
    assert "not a PEM certificate with its key" in mistake(TlsFiles(garbage, good.key))
    assert "not a PEM certificate with its key" in mistake(TlsFiles(good.certificate, garbage))
    assert "not the key of the certificate" in mistake(TlsFiles(good.certificate, other.key))
    assert "the key is encrypted" in mistake(TlsFiles(good.certificate, encrypted))
    assert "no PEM certificate in it" in mistake(TlsFiles(good.certificate, good.key, garbage))


ENCRYPTED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjzrlrETSedZwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEGZBQvF9GcxE8QKiXkNRXC4EgZBK
Iv0IvWXEUegHnS+VArBo2X7eLmAo6zCe29zRlpeZOOV2o/2mzPloGd4Ea96DqvQe
gAEq4MYs9kl1i3IseFfWx9scf14XJaEuO6I7XvWWpZ0olT9OlIo6KJuZenqKffcR
1ve0yLNvFoP3dNiUvAP6VGWCAMQ8tLeBlkkv5mKxJS9tJuLwWJSql95Ykt+4Hwk=
-----END ENCRYPTED PRIVATE KEY-----
"""  # made for this test; its passphrase is "test"
