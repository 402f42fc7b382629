"""TLS of the scaler's own gRPC ports: certificates from files, read anew when they are renewed.

Owns what is asked of the files and how an error names them. Called for the embedded bus and for KEDA's
external scaler, before either port is opened.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from minwatt.v1.errors import UsageError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM. `client_ca`: only clients with a certificate of this authority may ask. `option`: what the
    command's options for them begin with."""

    option: str
    certificate: Path
    key: Path
    client_ca: Path | None = None


def tls_files(
    option: str, certificate: Path | None, key: Path | None, client_ca: Path | None = None
) -> TlsFiles | None:
    """From what the command line says; None: plaintext. Raises UsageError."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        missing = "cert" if certificate is None else "key"
        raise UsageError(f"{option}-{missing}: is missing; a certificate and its key go together")
    return TlsFiles(option, certificate, key, client_ca)


def credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Files are read at each handshake: renewed ones serve at once, unusable ones leave the last in force.
    Raises UsageError where they are unusable now.
    """
    last = usable(files)

    def renewed() -> grpc.ServerCertificateConfiguration:
        nonlocal last
        with suppress(UsageError):
            last = usable(files)
        return last

    return grpc.dynamic_ssl_server_credentials(
        last, renewed, require_client_authentication=files.client_ca is not None
    )


def usable(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    """Raises UsageError that names option and file."""
    options = {
        f"{files.option}-cert": files.certificate,
        f"{files.option}-key": files.key,
        f"{files.option}-client-ca": files.client_ca,
    }
    named = ", ".join(f"{option} = {path}" for option, path in options.items() if path is not None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
        client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
        context.load_cert_chain(files.certificate, files.key, lambda: b"")
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
    except ssl.SSLError as error:  # is an OSError too
        raise UsageError(f"{named}: not PEM, or not the key of the certificate") from error
    except OSError as error:
        raise UsageError(f"{named}: {error.filename} can't be read ({error.strerror})") from error
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)
