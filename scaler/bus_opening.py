"""From what the command line says to a hub: the embedded one, or Redis where a URL is given.

Called by `minwatt scale`, of one policy or of many.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.bus_token import read_tokens
from minwatt.v1.errors import UsageError
from minwatt.v1.redis_address import RedisAddress, parse_redis_url
from scaler.bus import Hub
from scaler.embedded_bus import EmbeddedHub, check_address
from scaler.grpc_tls import TlsFiles, usable

DEFAULT_LISTEN = "127.0.0.1:8600"


@dataclass(frozen=True, slots=True)
class BusOptions:
    """Of the command; `listen` None is DEFAULT_LISTEN. `token_file`, `tls`: of replicas that join there.
    `beside`: where the scaler's other ports are served, of metrics and health; None: at the host of `listen`.
    """

    listen: str | None = None
    redis: str | None = None
    redis_password_file: Path | None = None
    beside: str | None = None
    token_file: Path | None = None
    tls: TlsFiles | None = None

    @property
    def host(self) -> str:
        """Of the scaler's other ports."""
        if self.beside is not None:
            return self.beside
        return (self.listen or DEFAULT_LISTEN).rpartition(":")[0].strip("[]")

    def check(self) -> None:
        """What can be wrong of them before a hub is opened, which may be days later. Raises UsageError."""
        if self.redis is not None:
            self._redis_address(self.redis)
            return
        if self.redis_password_file is not None:
            raise UsageError("--bus-redis-password-file: needs --bus-redis")
        check_address(self.listen or DEFAULT_LISTEN)
        if self.token_file is not None:
            read_tokens(self.token_file, "--bus-token-file")
        if self.tls is not None:
            usable(self.tls)

    def _redis_address(self, url: str) -> RedisAddress:
        if self.listen is not None:
            raise UsageError("--listen and --bus-redis: replicas join by one of them: give one")
        if self.token_file is not None or self.tls is not None:
            raise UsageError("--bus-token-file, --bus-tls-*: of --listen; a Redis has its own users and TLS")
        address = parse_redis_url(url, "--bus-redis", self.redis_password_file)
        address.password()
        from scaler.redis_bus import RedisHub  # noqa: F401 - an extra: is it there?

        return address


async def open_hub(options: BusOptions) -> Hub:
    """Raises UsageError. A Redis that is away is no error: it is tried until it is there."""
    options.check()
    if options.redis is None:
        listen = options.listen or DEFAULT_LISTEN
        return await EmbeddedHub.listen(listen, token_file=options.token_file, tls=options.tls)
    from scaler.redis_bus import RedisHub  # an extra: read only where it is asked for

    return RedisHub(parse_redis_url(options.redis, "--bus-redis", options.redis_password_file))
