"""Where the page is served, from the command line. Owns which address needs a token; `server` asks for it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minwatt.v1.bus_token import read_tokens
from minwatt.v1.errors import UsageError

if TYPE_CHECKING:
    from scaler.dashboard.server import Dashboard

DEFAULT_ADDRESS = "127.0.0.1:9091"
OFF = "off"


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """Of the command: HOST:PORT, or off; `token_file` is needed where others than this machine can come."""

    address: str | None = None  # None: DEFAULT_ADDRESS, or a free port beside it
    token_file: Path | None = None

    def opened(self) -> Dashboard | None:
        """None: off. Raises UsageError."""
        if self.address == OFF:
            if self.token_file is not None:
                raise UsageError("--dashboard-token-file: of no use with --dashboard off")
            return None
        host, port = _host_and_port(self.address or DEFAULT_ADDRESS)
        if self.token_file is None and not is_loopback(host):
            raise UsageError(f"--dashboard = {self.address!r}: others can look: needs --dashboard-token-file")
        from scaler.dashboard.server import Dashboard  # its HTTP server takes longest to import

        tokens = () if self.token_file is None else read_tokens(self.token_file, "--dashboard-token-file")
        return Dashboard(host, port, tokens, may_move=self.address is None)


def is_loopback(host: str) -> bool:
    """By its name or its number: no lookup."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"--dashboard = {address!r}: allowed: HOST:PORT (port 0: a free one), or {OFF}")
    return host.strip("[]"), int(port)
