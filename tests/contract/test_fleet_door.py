"""Who may join the embedded bus: tokens and certificates, renewed while both ends run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.bus_token import admits, read_tokens, shown
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET
from scaler.embedded_bus import EmbeddedHub
from scaler.grpc_tls import TlsFiles
from service.fleet import AwayError
from service.fleet_grpc import GrpcLink, JoinFiles
from tests.contract.fleet_replica import WAIT_S, Replica, point, report, until

OURS, NEXT, THEIRS = (f"{name}-0123456789abcdef" for name in ("ours", "next", "theirs"))


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Path]:
    """A file of that name with these lines, which replace those that it had."""

    def write(name: str, *lines: str) -> Path:
        file = tmp_path / name
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


@asynccontextmanager
async def listening(
    token_file: Path | None = None, tls: TlsFiles | None = None
) -> AsyncIterator[EmbeddedHub]:
    hub = await EmbeddedHub.listen("localhost:0", token_file=token_file, tls=tls)
    try:
        yield hub
    finally:
        await hub.close()


async def joins(hub: EmbeddedHub, files: JoinFiles) -> bool:
    """Whether it is heard, and told an operating point."""
    bus = hub.fleet(DEFAULT_FLEET)
    await bus.publish(point(3))
    replica = await Replica.joined(GrpcLink(hub.address, files))
    try:
        await replica.say(report("a"))
        version = await replica.hear()
        await until(bus, lambda members, reports: members == {"a"})
        return version == 3
    finally:
        await replica.leave()
        await until(bus, lambda members, reports: not members)


async def told(link: GrpcLink) -> list[int]:
    """Versions, until the scaler ends it."""
    async with link.open() as session, asyncio.timeout(WAIT_S):
        await session.send(report("a"), last=False)
        return [one.version async for one in session.points()]


async def refused(hub: EmbeddedHub, files: JoinFiles) -> str:
    """In which words."""
    bus = hub.fleet(DEFAULT_FLEET)
    await bus.publish(point(3))
    with pytest.raises(AwayError) as raised:
        await told(GrpcLink(hub.address, files))
    view = await bus.collect()
    assert (view.members, view.reports) == (frozenset(), ())
    return str(raised.value)


async def test_who_shows_no_token_of_the_scalers_neither_reports_nor_is_told(
    kept: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(kept("tokens", OURS)) as hub:
        assert await joins(hub, JoinFiles(kept("mine", OURS)))
        for files in (JoinFiles(), JoinFiles(kept("mine", THEIRS)), JoinFiles(kept("mine", OURS[:-1]))):
            assert (await refused(hub, files)).startswith("UNAUTHENTICATED: the scaler asks for a token")
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(lines) == 1, "replicas try again and again"
    assert "may not join: it shows no token" in lines[0]
    assert all(secret not in caplog.text for secret in (OURS, THEIRS))


@pytest.mark.parametrize(("host", "said"), [("0.0.0.0", 1), ("127.0.0.1", 0), ("localhost", 0)])
async def test_a_token_in_plain_text_is_told_of(
    kept: Callable[..., Path], caplog: pytest.LogCaptureFixture, host: str, said: int
) -> None:
    hub = await EmbeddedHub.listen(f"{host}:0", token_file=kept("tokens", OURS))
    await hub.close()
    assert caplog.text.count("tokens travel in plain text") == said


async def test_a_token_is_exchanged_while_both_ends_run(
    kept: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(kept("tokens", OURS)) as hub:
        mine = JoinFiles(kept("mine", OURS))
        assert await joins(hub, mine)
        kept("tokens", OURS, NEXT)
        assert await joins(hub, mine)
        kept("mine", NEXT)
        assert await joins(hub, mine)
        kept("tokens", NEXT)
        assert await joins(hub, mine)
        kept("tokens")
        assert await joins(hub, mine), "an unusable file leaves the last tokens in force"
        assert "holds no token: the last tokens stay in force" in caplog.text
        kept("mine")
        assert "scaler-token-file" in await refused(hub, mine)


async def test_over_tls_the_scaler_is_who_it_must_be(tmp_path: Path, kept: Callable[..., Path]) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    made = ours.issue_cert("localhost")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    for name, authority in (("ours.pem", ours), ("theirs.pem", theirs)):
        authority.cert_pem.write_to_path(tmp_path / name)
    tls = TlsFiles("--bus-tls", tmp_path / "cert.pem", tmp_path / "key.pem")
    token = kept("tokens", OURS)
    async with listening(token, tls) as hub:
        assert await joins(hub, JoinFiles(token, tmp_path / "ours.pem"))
        assert await refused(hub, JoinFiles(token, tmp_path / "theirs.pem")) == "UNAVAILABLE"
        assert await refused(hub, JoinFiles(token)) == "UNAVAILABLE", "plaintext"
        assert "UNAUTHENTICATED" in await refused(hub, JoinFiles(None, tmp_path / "ours.pem"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no token"),
        ([OURS, "short"], "token 2: allowed: 16 to 1024 ASCII characters, no blanks"),
        ([OURS, "with blanks in between"], "token 2"),
        (["schlüssel-0123456789"], "token 1"),
    ],
)
async def test_an_unusable_token_is_one_line_that_does_not_repeat_it(
    kept: Callable[..., Path], lines: list[str], words: str
) -> None:
    file = kept("tokens", *lines)
    with pytest.raises(UsageError, match=words) as raised:
        await EmbeddedHub.listen(token_file=file)
    assert "--bus-token-file" in str(raised.value)
    assert not any(line in str(raised.value) for line in lines)
    with pytest.raises(UsageError, match=words):
        JoinFiles(file).check()


def test_files_that_a_replica_can_not_use_are_one_line(kept: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scaler-token-file = '.*none': No such file"):
        JoinFiles(tmp_path / "none").check()
    with pytest.raises(UsageError, match=r"scaler-ca = '.*none': No such file"):
        JoinFiles(None, tmp_path / "none").check()
    torn = ("-----BEGIN CERTIFICATE-----", "AAAA", "-----END CERTIFICATE-----")
    for lines in (("words",), torn, ()):
        with pytest.raises(UsageError, match=r"scaler-ca = '.*words': no PEM certificate in it"):
            JoinFiles(None, kept("words", *lines)).check()
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match=r"scaler-ca = '.*empty': no PEM certificate in it"):
        JoinFiles(None, tmp_path / "empty").check()
    authority = trustme.CA().cert_pem.bytes().decode()
    JoinFiles(None, kept("with words", "Zürich's authority", authority)).check()


_TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=40)


@given(held=st.lists(_TOKENS, min_size=1, max_size=3), other=st.text(max_size=50))
def test_a_token_is_taken_only_whole(held: list[str], other: str) -> None:
    assert all(admits(held, shown(token)) for token in held)
    assert admits(held, other) is (other in {shown(token) for token in held})
    assert not admits(held, held[0])  # without its scheme


def test_blank_lines_and_ends_of_lines_are_no_part_of_a_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(f"\r\n{OURS}\r\n\n{NEXT}".encode())
    assert list(read_tokens(tmp_path / "tokens", "x")) == [OURS, NEXT]
