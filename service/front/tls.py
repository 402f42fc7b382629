"""TLS of the front end: files to a context, a client's certificate to its name, and new files without a stop.

The only place that knows certificates. `door` opens with the context and takes each new one for the
connections to come; those that are open live on with theirs.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minwatt.v1.errors import UsageError

LOOK_S = 1.0  # at the files; new ones are taken once they have stood still for so long

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM. `client_ca`: only clients with a certificate of this authority may connect."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def load(files: TlsFiles) -> ssl.SSLContext:
    """A context for the server's side of HTTP/2. Raises UsageError that names option and file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    for option, path in (
        ("tls-cert", files.certificate),
        ("tls-key", files.key),
        ("tls-client-ca", files.client_ca),
    ):
        if path is not None:
            _readable(option, path)

    def encrypted() -> str:
        raise UsageError(f"tls-key = {files.key}: the key is encrypted; allowed: a key without a passphrase")

    try:
        context.load_cert_chain(files.certificate, files.key, encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"tls-key = {files.key}: not the key of the certificate in tls-cert = {files.certificate}"
            ) from error
        raise UsageError(
            f"tls-cert = {files.certificate}, tls-key = {files.key}: not a PEM certificate with its key"
        ) from error
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise UsageError(f"tls-client-ca = {files.client_ca}: no PEM certificate in it") from error
    return context


def identity_of(certificate: Mapping[str, Any] | None) -> str | None:
    """Whom a verified certificate names: a URI (as SPIFFE has it), else a DNS name, else the common name."""
    if not certificate:
        return None
    names = certificate.get("subjectAltName", ())
    for wanted in ("URI", "DNS"):
        for kind, name in names:
            if kind == wanted:
                return str(name)
    subject = (field for group in certificate.get("subject", ()) for field in group)
    return next((str(value) for key, value in subject if key == "commonName"), None)


async def follow(files: TlsFiles, loaded: object, take: Callable[[ssl.SSLContext], Awaitable[None]]) -> None:
    """Hands on a new context whenever the files have changed since `loaded`, a `fingerprint`; never ends.

    Files that can't be used are one warning, and those in force stay.
    """
    before: object = loaded
    while True:
        await asyncio.sleep(LOOK_S)
        now = fingerprint(files)
        if now != loaded and now == before:
            loaded = now
            try:
                await take(await asyncio.to_thread(load, files))
                log.info("new certificates are in force: %s", files.certificate)
            except UsageError as error:
                log.warning("certificates stay as they were: %s", error)
        before = now


def fingerprint(files: TlsFiles) -> object:
    """Changes when a file does, or what a link leads to."""
    return [_stamp(path) for path in (files.certificate, files.key, files.client_ca) if path is not None]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _readable(option: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise UsageError(f"{option} = {path}: can't be read ({error.strerror})") from error
