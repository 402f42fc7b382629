"""A connection to a Redis, whatever it is: one server, one behind sentinels, a cluster.

The only file that imports `redis`: on the ground floor because scaler and server both need it, and read only
where one is asked for. Owns options and which errors mean what; `scaler/redis_bus`, `service/fleet_redis` and
`service/cache/redis_store` own what is said, and when to try again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from minwatt.v1.errors import UsageError
from minwatt.v1.redis_address import Kind, RedisAddress

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        MovedError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
    )
    from redis.exceptions import TimeoutError as ClientTimeoutError
except ImportError as error:
    raise UsageError("Redis: needs its package: pip install 'minwatt[redis]'") from error

# What a try may end with; a cluster's own are no RedisError, and a host's name may be no text that DNS takes.
FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError, UnicodeError, UsageError)


def of_one_question(error: BaseException) -> bool:
    """Whether the connection is as good as before: the server refused just what was asked."""
    return isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError)


def in_words(error: BaseException) -> str:
    """One line. A server's own words name commands and keys, a client's may name more: these are left out."""
    if isinstance(error, MovedError):
        return "it is one node of a cluster: redis+cluster://… asks them all"
    if isinstance(error, ResponseError | UsageError):
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if isinstance(error, TimeoutError | ClientTimeoutError):
        return "no answer in time"
    if isinstance(error, AttributeError):  # the library's, where it looks up a slot's node and finds None
        return "a slot of the cluster has moved to a node that the client has not heard of"
    cause = error.__cause__ or error.__context__
    return type(error).__name__ + ("" if cause is None else f" ({type(cause).__name__})")


@contextlib.asynccontextmanager
async def connected(address: RedisAddress, patience_s: float) -> AsyncIterator[Any]:
    """A client that connects when first asked and tries nothing twice.

    With sentinels, each new connection asks them anew who is the master.
    """
    options: dict[str, Any] = {
        **address.credentials(),
        **address.transport(),
        "socket_timeout": patience_s,
        "socket_connect_timeout": patience_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # its name is not told: that would need one more right of the ACL user
    }
    async with contextlib.AsyncExitStack() as stack:
        client: Any
        if address.kind is Kind.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.nodes]
            client = RedisCluster(startup_nodes=nodes, **options)
        elif address.kind is Kind.SENTINEL:
            own = () if address.sentinel_auth else ("username", "password")
            asking = {name: value for name, value in options.items() if name not in own}
            sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
                address.nodes, sentinel_kwargs=asking, **options
            )
            stack.push_async_callback(_closed, sentinels)
            client = sentinels.master_for(address.service, db=address.db)
        elif address.kind is Kind.SOCKET:
            client = Redis(unix_socket_path=address.path, db=address.db, **options)
        else:
            ((host, port),) = address.nodes
            client = Redis(host=host, port=port, db=address.db, **options)
        stack.push_async_callback(_closed, client)
        yield client


async def _closed(client: Any) -> None:
    with contextlib.suppress(Exception):  # of a cluster whose slots move: AttributeError
        await client.aclose()
