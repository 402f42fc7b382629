"""A real redis-server with the overlay's configuration and users, filled in as docs/kubernetes.md says."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s" / "components" / "redis"
PASSWORDS = {"minwatt-scaler": "of the scaler", "minwatt-replica": "of the replicas"}
POINT, REPORTS, TOLD = (f"minwatt:{{inference/support-text}}:{name}" for name in ("point", "reports", "told"))
START_TIMEOUT_S = 30.0

As = Callable[[str], redis.Redis]


@pytest.fixture(scope="module")
def client_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[As]:
    """A client of the user of that name."""
    server = shutil.which("redis-server")
    assert server, "redis-server is missing: run `make system` or install Debian's redis-server"
    folder = tmp_path_factory.mktemp("redis")
    acl = (FOLDER / "users.acl").read_text(encoding="utf-8")
    for place, user in (("@SCALER@", "minwatt-scaler"), ("@REPLICA@", "minwatt-replica")):
        acl = acl.replace(place, "#" + hashlib.sha256(PASSWORDS[user].encode()).hexdigest())
    (folder / "users.acl").write_text(acl, encoding="utf-8")
    conf = (FOLDER / "redis.conf").read_text(encoding="utf-8")
    conf = conf.replace("/etc/redis-acl/users.acl", str(folder / "users.acl"))
    conf = re.sub(r"^port \d+$", f"port 0\nunixsocket {folder}/redis.sock", conf, flags=re.M)
    (folder / "redis.conf").write_text(conf, encoding="utf-8")
    process = subprocess.Popen(
        [server, str(folder / "redis.conf")], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    clients = []

    def client_of(user: str) -> redis.Redis:
        clients.append(
            redis.Redis(
                unix_socket_path=f"{folder}/redis.sock",
                username=user,
                password=PASSWORDS[user],
                driver_info=None,
                protocol=2,
            )
        )
        return clients[-1]

    try:
        ends_s = time.monotonic() + START_TIMEOUT_S
        while not (folder / "redis.sock").exists() and process.poll() is None and time.monotonic() < ends_s:
            time.sleep(0.01)
        assert process.poll() is None, "redis-server would not take its configuration"
        yield client_of
    finally:
        for one in clients:
            one.close()
        process.terminate()
        process.wait()


def test_each_may_do_its_part(client_of: As) -> None:
    scaler, replica = client_of("minwatt-scaler"), client_of("minwatt-replica")
    replica.xadd(REPORTS, {"r": b"a report"})
    assert len(scaler.xrange(REPORTS)) == 1
    scaler.hset(POINT, "point", b"a point")
    assert replica.hget(POINT, "point") == b"a point"
    assert scaler.publish(TOLD, b"a point") == 0


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("minwatt-replica", ("HSET", POINT, "point", "mine")),  # only the scaler says what to run at
        ("minwatt-replica", ("PUBLISH", TOLD, "mine")),
        ("minwatt-replica", ("XRANGE", REPORTS, "-", "+")),  # of others
        ("minwatt-replica", ("EVAL", "return 1", "0")),
        ("minwatt-replica", ("XADD", "other", "*", "r", "1")),
        ("minwatt-scaler", ("XADD", REPORTS, "*", "r", "1")),
        ("minwatt-scaler", ("HSET", "other", "a", "b")),
        *[
            (user, command)
            for user in PASSWORDS
            for command in (
                ("FLUSHALL",),
                ("CONFIG", "GET", "*"),
                ("KEYS", "*"),
                ("ACL", "LIST"),
                ("SHUTDOWN",),
            )
        ],
    ],
)
def test_and_nothing_else(client_of: As, user: str, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        client_of(user).execute_command(*command)


def test_nobody_comes_in_without_a_password(client_of: As) -> None:
    socket = client_of("minwatt-scaler").connection_pool.connection_kwargs["path"]
    nobody = redis.Redis(unix_socket_path=socket, retry=Retry(NoBackoff(), 0))
    with nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()


def test_rights_are_those_that_are_documented() -> None:
    """docs/redis.md's are tried by the tests of the bus, against every command that it gives."""
    page = (ROOT / "docs" / "redis.md").read_text(encoding="utf-8")
    for line in (FOLDER / "users.acl").read_text(encoding="utf-8").splitlines()[1:]:
        name, rights = re.fullmatch(r"user (\S+) on @\w+@ (.*)", line).groups()  # type: ignore[union-attr]
        assert f"user {name} on >PASSWORD {rights}" in page
