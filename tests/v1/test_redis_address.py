"""Addresses of a Redis: what they mean, and that no error repeats a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.redis_address import Kind, RedisAddress, parse_redis_url


def parsed(url: str, password_file: Path | None = None) -> RedisAddress:
    return parse_redis_url(url, "bus-redis", password_file)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisAddress(Kind.SERVER, (("h", 6379),))),
        (
            "redis://u:p%40@[::1]:7/3",
            RedisAddress(Kind.SERVER, (("::1", 7),), db=3, username="u", _password="p@"),
        ),
        ("redis://:p@h", RedisAddress(Kind.SERVER, (("h", 6379),), _password="p")),
        ("unix:///run/redis.sock?db=2", RedisAddress(Kind.SOCKET, path="/run/redis.sock", db=2)),
        ("unix://u@/run/redis.sock", RedisAddress(Kind.SOCKET, path="/run/redis.sock", username="u")),
        ("rediss://h:1", RedisAddress(Kind.SERVER, (("h", 1),), tls={})),
        (
            "redis+sentinel://a,b:7/fleet/2?sentinel-auth=yes",
            RedisAddress(Kind.SENTINEL, (("a", 26379), ("b", 7)), service="fleet", db=2, sentinel_auth=True),
        ),
        ("rediss+cluster://a,b:7", RedisAddress(Kind.CLUSTER, (("a", 6379), ("b", 7)), tls={})),
    ],
)
def test_what_an_address_means(url: str, expected: RedisAddress) -> None:
    assert parsed(url) == expected


def test_files_of_tls_are_the_clients_options(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    address = parsed(f"rediss://h?ca={tmp_path}/ca&cert={tmp_path}/cert&key={tmp_path}/key")
    assert address.transport() == {
        "ssl": True,
        "ssl_ca_certs": f"{tmp_path}/ca",
        "ssl_certfile": f"{tmp_path}/cert",
        "ssl_keyfile": f"{tmp_path}/key",
    }
    with pytest.raises(UsageError, match=r"bus-redis = rediss://…: cert and key go together"):
        parsed(f"rediss://h?cert={tmp_path}/cert")
    with pytest.raises(UsageError, match="no such file"):
        parsed(f"rediss://h?ca={tmp_path}/none")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "bus-redis = http://…: not an address; allowed: redis://HOST:PORT/DB"),
        ("nonsense", "bus-redis = …: not an address"),
        ("redis://", "not a host and a port"),
        ("redis://h:0", "not a host and a port"),
        ("redis://h:99999", "not a host and a port"),
        ("redis://a,b", "2 hosts: allowed: one; or redis"),
        ("redis://h/x", "its database; allowed: a number"),
        ("redis://h/1/2", "its path"),
        ("redis+cluster://h/1", "its path"),
        ("redis+sentinel://h", "the sentinels' service is missing"),
        ("redis://h?ca=x", "option 'ca': allowed here, each with a value: none"),
        ("redis://u:1?5@h:1", "an '@' after '?'; in a user's name or password write ?, / and # as"),
        ("redis://[::1", "not an address"),
        ("unix://host/path", "not an address"),
    ],
)
def test_errors_say_what_is_allowed(url: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        parsed(url)
    assert why in str(raised.value)


def test_a_password_from_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    address = parsed("redis://u@h", file)
    with pytest.raises(UsageError, match="No such file"):
        address.password()
    file.write_text("first\n")
    assert address.credentials() == {"username": "u", "password": "first"}
    file.write_text("second")
    assert address.password() == "second"
    with pytest.raises(UsageError, match="a password there and a password file"):
        parsed("redis://u:p@h", file)


secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map("hunter2".__add__)


schemes = st.sampled_from(["redis", "rediss+sentinel", "redis+cluster", "unix", "x"])


@given(secrets, schemes, st.text(max_size=8))
def test_no_error_and_no_representation_repeats_a_password(secret: str, scheme: str, rest: str) -> None:
    try:
        address = parsed(f"{scheme}://user:{secret}@host:6379/0{rest}")
        said = repr(address) + str(address)
    except UsageError as error:
        said = str(error)
    assert "hunter2" not in said
