"""From what the command line says to a hub: the embedded one, or Redis where a URL is given.

Called by `minwatt scale`, of one policy or of many.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.redis_address import parse_redis_url
from scaler.bus import Hub
from scaler.embedded_bus import EmbeddedHub

DEFAULT_LISTEN = "127.0.0.1:8600"


@dataclass(frozen=True, slots=True)
class BusOptions:
    """Of the command; `listen` None is DEFAULT_LISTEN. `beside`: where the scaler's other ports are served,
    of metrics and health; None: at the host of `listen`."""

    listen: str | None = None
    redis: str | None = None
    redis_password_file: Path | None = None
    beside: str | None = None

    @property
    def host(self) -> str:
        """Of the scaler's other ports."""
        if self.beside is not None:
            return self.beside
        return (self.listen or DEFAULT_LISTEN).rpartition(":")[0].strip("[]")


async def open_hub(options: BusOptions) -> Hub:
    """Raises UsageError. A Redis that is away is no error: it is tried until it is there."""
    if options.redis is None:
        if options.redis_password_file is not None:
            raise UsageError("--bus-redis-password-file: needs --bus-redis")
        return await EmbeddedHub.listen(options.listen or DEFAULT_LISTEN)
    if options.listen is not None:
        raise UsageError("--listen and --bus-redis: replicas join by one of them: give one")
    address = parse_redis_url(options.redis, "--bus-redis", options.redis_password_file)
    address.password()
    from scaler.redis_bus import RedisHub  # an extra: read only where it is asked for

    return RedisHub(address)
