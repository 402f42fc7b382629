"""Where a Redis is and how to get in, read from a URL. Pure but for the password's file; imports no client.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]         unix:///PATH[?db=DB]
    redis+sentinel://[USER…@]HOST:PORT,…/SERVICE[/DB]  redis+cluster://[USER…@]HOST:PORT,…

`rediss…` for `redis…` asks for TLS. Options: `ca=FILE` (whose certificates are trusted; else the system's),
`cert=FILE&key=FILE` (a client certificate), `sentinel-auth=yes` (the sentinels ask for the same user and
password). A password may stand in a file instead, which is read each time a connection is opened: a rotated
one is found. No error and no representation repeats a password.

Used by the one file that imports the client, `redis_connection.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from minwatt.v1.errors import UsageError

ALLOWED = (
    "redis://HOST:PORT/DB, unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or "
    "redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS"
)
_NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:,\[\]\s]+)(?::(\d{1,5}))?", re.ASCII)
_REDIS_PORT, _SENTINEL_PORT = 6379, 26379


class Kind(Enum):
    SERVER = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"
    SOCKET = "unix"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`nodes` are the server, the sentinels or some of the cluster; `path` is the socket's."""

    kind: Kind
    nodes: Sequence[tuple[str, int]] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = None
    tls: Mapping[str, str] | None = None  # None: plaintext; as the client's options call them
    sentinel_auth: bool = False
    password_file: Path | None = None
    _password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """For people; without a secret."""
        if self.kind is Kind.SOCKET:
            return f"unix://{self.path}"
        scheme = self.kind.value if self.tls is None else self.kind.value.replace("redis", "rediss", 1)
        nodes = ",".join(f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{nodes}" + (f"/{self.service}" if self.service else "")

    def password(self) -> str | None:
        """Raises UsageError where its file can't be read."""
        if self.password_file is None:
            return self._password
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(f"Redis' password: {str(self.password_file)!r}: {why}") from error

    def credentials(self) -> dict[str, str | None]:
        """As the client's options call them."""
        return {"username": self.username, "password": self.password()}

    def transport(self) -> dict[str, Any]:
        """As the client's options call them."""
        return {} if self.tls is None else {"ssl": True, **self.tls}


def parse_redis_url(url: str, option: str, password_file: Path | None = None) -> RedisAddress:
    """Raises UsageError that names `option` and repeats nothing of the URL but its scheme."""
    try:
        return _parsed(url, password_file)
    except ValueError as error:
        scheme = re.match(r"[a-z+]{1,20}(?=://)", url)
        shown = f"{scheme[0]}://…" if scheme else "…"
        raise UsageError(f"{option} = {shown}: {error}") from error


def _parsed(url: str, password_file: Path | None) -> RedisAddress:
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may repeat the password
        raise ValueError(f"not an address; allowed: {ALLOWED}") from None
    plain_scheme = parts.scheme.replace("rediss", "redis", 1)
    kind = next((one for one in Kind if one.value == plain_scheme), None)
    if kind is None or parts.fragment:
        raise ValueError(f"not an address; allowed: {ALLOWED}")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    if password and password_file is not None:
        raise ValueError("a password there and a password file: give one of them")
    options = _options(parts.query, kind, tls=parts.scheme != plain_scheme)
    path = unquote(parts.path)
    service, db = "", options.pop("db", "0")
    if kind is Kind.SOCKET:
        nodes: Sequence[tuple[str, int]] = ()
        if hosts or not path:
            raise ValueError(f"not an address; allowed: {ALLOWED}")
    else:
        nodes = _nodes(hosts, _SENTINEL_PORT if kind is Kind.SENTINEL else _REDIS_PORT)
        words = [word for word in path.split("/") if word]
        if kind is Kind.SENTINEL:
            if not words:
                raise ValueError("the sentinels' service is missing; allowed: …/SERVICE or …/SERVICE/DB")
            service = words.pop(0)
        if len(words) > (0 if kind is Kind.CLUSTER else 1):
            raise ValueError(f"its path; allowed: {ALLOWED}")
        db = words[0] if words else db
        if kind is Kind.SERVER and len(nodes) > 1:
            raise ValueError(f"{len(nodes)} hosts: allowed: one; or redis+sentinel, redis+cluster")
    if not db.isascii() or not db.isdigit():
        raise ValueError("its database; allowed: a number")
    sentinel_auth = options.pop("sentinel-auth", "no") == "yes"
    return RedisAddress(
        kind,
        nodes,
        path if kind is Kind.SOCKET else "",
        service,
        int(db),
        unquote(user) or None,
        options if parts.scheme != plain_scheme else None,
        sentinel_auth,
        password_file,
        unquote(password) or None,
    )


def _nodes(hosts: str, default_port: int) -> Sequence[tuple[str, int]]:
    found = []
    for text in hosts.split(","):
        match = _NODE.fullmatch(text)
        port = int(match[2] or default_port) if match else 0
        if match is None or not 0 < port < 65536:
            raise ValueError(f"not a host and a port; allowed: {ALLOWED}")
        found.append((match[1].strip("[]"), port))
    return tuple(found)


def _options(query: str, kind: Kind, *, tls: bool) -> dict[str, str]:
    """TLS files as the client's options call them; the rest as it stands."""
    names = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"} if tls else {}
    allowed = [*names]
    if kind is Kind.SENTINEL:
        allowed.append("sentinel-auth")
    if kind is Kind.SOCKET:
        allowed.append("db")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if "@" in query and (name not in allowed or not value):  # it may be a part of a password
            raise ValueError(
                "an '@' after '?'; in a user's name or password write ?, / and # as %3F, %2F, %23"
            )
        if name not in allowed or not value:
            listed = ", ".join(allowed) or "none"
            raise ValueError(f"option {name[:20]!r}: allowed here, each with a value: {listed}")
        if name in names and not Path(value).is_file():
            raise ValueError(f"{name} = {value!r}: no such file")
        if name == "sentinel-auth" and value not in ("yes", "no"):
            raise ValueError("sentinel-auth: allowed: yes or no")
        found[names.get(name, name)] = value
    if ("ssl_certfile" in found) != ("ssl_keyfile" in found):
        raise ValueError("cert and key go together")
    return found
