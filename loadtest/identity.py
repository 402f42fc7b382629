"""Who sends the load: TLS files and an API key, from options to what a channel and a call need.

Named as `minwatt serve` and the client name them. The key comes in a file: what stands on a command line can
be seen by every user of the machine. Called by `replay`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loadtest.load import flag
from minwatt.channels import ExposedKeyError, Identity, Tls, TlsFileError, identity
from minwatt.v1.errors import UsageError


class IdentityOptions(BaseModel):
    """Any `tls` option asks for TLS; a client's certificate and its key go together."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=flag, populate_by_name=True)

    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    api_key_file: Path | None = None
    allow_plaintext_key: bool = False

    @property
    def encrypts(self) -> bool:
        return self.tls or any((self.tls_ca, self.tls_cert, self.tls_key, self.tls_server_name))

    def identity(self, target: str) -> Identity:
        """Reads the files. Raises UsageError."""
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "--tls-cert" if self.tls_cert is None else "--tls-key"
            raise UsageError(f"{missing}: missing; a certificate and its key go together")
        if self.allow_plaintext_key and (self.encrypts or self.api_key_file is None):
            raise UsageError("--allow-plaintext-key: goes with --api-key-file and without TLS")
        key = None if self.api_key_file is None else _key_in(self.api_key_file)
        try:
            tls = Tls(self.tls_ca, self.tls_cert, self.tls_key, self.tls_server_name)
            return identity(
                [target], tls if self.encrypts else None, key, allow_plaintext_key=self.allow_plaintext_key
            )
        except ExposedKeyError as error:
            raise UsageError(
                f"--api-key-file: the key would travel unencrypted to {error.address}; give --tls or "
                "--tls-ca FILE, or --allow-plaintext-key where the network is trusted"
            ) from None
        except TlsFileError as error:
            raise UsageError(error.naming(lambda field: f"--tls-{field}")) from error


def _key_in(path: Path) -> str:
    """Of a file that holds nothing else. Its content is in no message."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f"--api-key-file = {str(path)!r}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable() or " " in key:
        raise UsageError(f"--api-key-file = {str(path)!r}: allowed: a file with the API key alone")
    return key
