"""From settings to a fleet's link, or to none: what `server` calls."""

from __future__ import annotations

from minwatt.v1.redis_address import parse_redis_url
from service.fleet import Link
from service.fleet_grpc import GrpcLink, JoinFiles
from service.settings import ServeSettings


def open_link(settings: ServeSettings) -> Link | None:
    """None: a replica on its own. Raises UsageError."""
    if settings.scaler is not None:
        files = JoinFiles(settings.scaler_token_file, settings.scaler_ca)
        files.check()
        return GrpcLink(settings.scaler, files)
    if settings.bus_redis is None:
        return None
    address = parse_redis_url(settings.bus_redis, "bus-redis", settings.bus_redis_password_file)
    address.password()
    from service.fleet_redis import RedisLink  # an extra: read only where it is asked for

    return RedisLink(address, settings.fleet)
