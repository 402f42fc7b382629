"""Where a client connects, how it proves who it is, and how gRPC's channels are set up for that.

Owns targets, TLS files, the key's metadata and channel options. Called by `client`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from minwatt.v1 import inference_pb2 as pb

# To one HOST:PORT, behind which several replicas may share the port (`minwatt up` does so): the kernel deals
# out connections, not requests, so that one connection would mean one replica.
CONNECTIONS = 4

_SERVICE = pb.DESCRIPTOR.services_by_name["TextInference"].full_name
_CONNECTION_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.use_local_subchannel_pool", 1),  # each channel its own connections: they spread over replicas
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the time a connection attempt may take
    ("grpc.max_reconnect_backoff_ms", 1000),
]

_SELF_RETRYING = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "waitForReady": True,  # while no replica listens, a request waits for one, within its deadline
            "retryPolicy": {
                "maxAttempts": 5,  # gRPC's own limit
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
# For code that makes its own calls on its own channels (a load generator): gRPC retries by itself, what this
# package's `retries` knows it doesn't.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SELF_RETRYING)),
    *_CONNECTION_OPTIONS,
]


class TlsFileError(ValueError):
    """Files of a `Tls`, by field, that can't be read or are not what they should be."""

    def __init__(self, files: Mapping[str, str | os.PathLike[str]], said: str) -> None:
        self._files, self._said = files, said
        super().__init__(f"tls: {self.naming(str)}")

    def naming(self, named: Callable[[str], str]) -> str:
        """For whom the fields go by another name."""
        files = (f"{named(field)} = {os.fspath(path)!r}" for field, path in self._files.items())
        return f"{', '.join(files)}: {self._said}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption, and with `cert` and `key` a client certificate (mTLS). All are PEM files.

    ca: the authorities to trust; None: those gRPC brings along.
    server_name: the name the server's certificate must have, where it isn't the target's.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("tls: cert and key are given together or not at all")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files, now. Raises TlsFileError for what is missing, or not what it should be.

        gRPC would take anything, and fail with each request.
        """
        ca, key, cert = (_pem(name, getattr(self, name)) for name in ("ca", "key", "cert"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError as error:
                raise TlsFileError({"ca": self.ca}, "no PEM certificate in it") from error
        if self.cert is not None and self.key is not None:
            try:
                context.load_cert_chain(self.cert, self.key, _no_passphrase)
            except (ssl.SSLError, _EncryptedError) as error:
                pair = {"cert": self.cert, "key": self.key}
                raise TlsFileError(pair, "not a PEM certificate with its key, unencrypted") from error
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is to its servers, and how it knows them."""

    credentials: grpc.ChannelCredentials | None = None
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of every call; carries the key
    options: tuple[tuple[str, Any], ...] = ()  # of every channel, beside its others


ANYBODY = Identity()  # and in the clear


class ExposedKeyError(ValueError):
    """A key would leave this machine in the clear, for `address`."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"api_key: would travel unencrypted to {address}; "
            "give tls=minwatt.Tls(…), or allow_plaintext_key=True where the network is trusted"
        )
        self.address = address


def identity(
    targets: Sequence[str], tls: Tls | None, api_key: str | None, *, allow_plaintext_key: bool
) -> Identity:
    """Reads the TLS files, now. Raises ValueError that names the argument."""
    if api_key is not None:
        _check_key(api_key)
        exposed = [address for address in targets if not _stays_here(address)]
        if exposed and tls is None and not allow_plaintext_key:
            raise ExposedKeyError(exposed[0])
    server_name = tls.server_name if tls is not None else None
    return Identity(
        credentials=tls.credentials() if tls is not None else None,
        metadata=(("authorization", f"Bearer {api_key}"),) if api_key is not None else (),
        options=() if server_name is None else (("grpc.ssl_target_name_override", server_name),),
    )


@dataclass(frozen=True, slots=True)
class Connecting:
    """What a client needs to open its channels: one for each of `targets`, all with `options`."""

    targets: tuple[str, ...]
    options: Sequence[tuple[str, Any]]
    credentials: grpc.ChannelCredentials | None
    metadata: tuple[tuple[str, str], ...] = field(repr=False)  # of every call; carries the key


def connecting(
    target: str,
    connections: int | None,
    tls: Tls | None,
    api_key: str | None,
    *,
    allow_plaintext_key: bool,
) -> Connecting:
    """From what an application gives. Raises ValueError that names the argument."""
    listed = tuple(address.strip() for address in target.split(",")) if ":" in target else ()
    if not listed or not all(listed):
        raise ValueError(
            f"target = {target!r}: allowed: HOST:PORT, several with commas between, or dns:///NAME:PORT"
        )
    if connections is not None and connections < 1:
        raise ValueError(f"connections = {connections}: allowed: 1 or more")
    who = identity(listed, tls, api_key, allow_plaintext_key=allow_plaintext_key)
    several = len(listed) > 1 or target.startswith("dns:")
    each = connections or (1 if several else CONNECTIONS)
    options = [("grpc.service_config", json.dumps(_service_config(several))), *_CONNECTION_OPTIONS]
    return Connecting(listed * each, [*options, *who.options], who.credentials, who.metadata)


def _service_config(several: bool) -> dict[str, Any]:
    """A name's addresses in turn. No retries and no waiting for a connection: those are `retries`'.

    Where there are several addresses, a replica whose health says NOT_SERVING gets no requests. At a single
    one there may be no other replica, and what a draining one still answers it should be asked.
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if several:
        config["healthCheckConfig"] = {"serviceName": ""}
    return config


class _EncryptedError(Exception):
    """A key that asks for a passphrase."""


def _no_passphrase() -> str:
    raise _EncryptedError  # else OpenSSL would ask at the terminal


def _pem(name: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsFileError({name: path}, error.strerror or str(error)) from error


def _check_key(key: str) -> None:
    # The key itself is in no message: messages end up in logs.
    if not key or not all("!" <= character <= "~" for character in key):
        raise ValueError("api_key: allowed: visible ASCII characters, no spaces, at least one")


def _stays_here(address: str) -> bool:
    """Whether what is sent there can't leave this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition("/")[2].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host = host.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
