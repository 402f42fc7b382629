"""From settings to a cache, or to none: what `assembly` calls."""

from __future__ import annotations

import time
from dataclasses import dataclass

from minwatt.v1.model_dir import ModelSpec
from minwatt.v1.redis_address import RedisAddress, parse_redis_url
from service.cache.flights import Flights, Store
from service.cache.keys import ModelKeys, fresh_secret, secret_of
from service.cache.known import KnownAnswers
from service.cache.memory import MemoryCache, MemoryStore
from service.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Cache:
    """One per process; lives as long as the process, whatever models come and go."""

    flights: Flights
    secret: bytes

    def of_model(self, spec: ModelSpec, variant: str, provider: str) -> KnownAnswers:
        """To be made anew for each model, variant and device: then no answer outlives what computed it."""
        return KnownAnswers(self.flights, ModelKeys(self.secret, spec, variant, provider))


def open_cache(settings: ServeSettings) -> Cache | None:
    """None when the cache is off. Raises UsageError."""
    if settings.cache_redis is not None:
        assert settings.cache_key_file is not None  # noqa: S101 - the settings' own rule
        secret = secret_of(settings.cache_key_file)
        address = parse_redis_url(settings.cache_redis, "cache-redis", settings.cache_redis_password_file)
        address.password()
        return Cache(Flights(_redis(address, secret, settings.cache_ttl_s)), secret)
    if settings.cache_bytes:
        memory = MemoryCache(settings.cache_bytes, settings.cache_ttl_s)
        return Cache(Flights(MemoryStore(memory, time.monotonic)), fresh_secret())
    return None


def _redis(address: RedisAddress, secret: bytes, ttl_s: float) -> Store:
    from service.cache.redis_store import RedisStore  # an extra: read only where it is asked for

    return RedisStore(address, secret, ttl_s)
