"""What the cache and traces cost and save: CPU a request without a transport, in interleaved rounds.

    python -m bench.known_answers [redis://HOST:PORT]

One text a request, one after the other, on the shipped model. The process's own CPU counts, engine and
tokenizer threads included; only the ratios of one round mean anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from loadtest.plan import Task
from loadtest.texts import packaged_texts
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY
from minwatt.v1.inference_pb2 import ClassifyOptions, ClassifyRequest
from service.assembly import Parts, assemble
from service.settings import ServeSettings

ROUNDS = 7
TEXTS = packaged_texts(Task.CLASSIFY)
NOBODY = "http://127.0.0.1:1"  # a collector that is away: spans are made, encoded and lost

Ask = Callable[[ClassifyRequest], Awaitable[None]]


@contextlib.asynccontextmanager
async def _replica(**flags: object):  # type: ignore[no-untyped-def]
    parts: Parts = assemble(ServeSettings.of_flags(meter="modelled", max_delay="0s", **flags))
    parts.replica.state = REPLICA_STATE_READY
    run = asyncio.create_task(parts.lifecycle.run())

    async def ask(request: ClassifyRequest) -> None:
        await parts.inference.answer(request, parts.inference.arrival("Classify", None))

    try:
        yield ask
    finally:
        run.cancel()
        await asyncio.wait({run})
        if parts.cache is not None:
            await parts.cache.flights.store.close()
        if parts.tracer is not None:
            parts.tracer.close()
        parts.inference.close()
        parts.power.close()


async def _cpu_us(ask: Ask, no_cache: bool) -> float:
    options = ClassifyOptions(no_cache=no_cache)
    begun_s = time.process_time()
    for text in TEXTS:
        await ask(ClassifyRequest(texts=[text], options=options))
    return (time.process_time() - begun_s) / len(TEXTS) * 1e6


async def measure(redis: str | None) -> dict[str, list[float]]:
    """CPU µs a request by way, one value a round."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_bytes(bytes(range(64)))
        async with contextlib.AsyncExitStack() as stack:
            off = await stack.enter_async_context(_replica())
            on = await stack.enter_async_context(_replica(cache_bytes=64 * 1024**2))
            traced = await stack.enter_async_context(_replica(otlp_endpoint=NOBODY))
            ways: dict[str, tuple[Ask, bool]] = {
                "computed, cache off": (off, False),
                "computed, cache on, no_cache": (on, True),
                "hit in memory": (on, False),
                "computed, each traced": (traced, False),
            }
            if redis is not None:
                flags = {"cache_redis": redis, "cache_key_file": secret}
                shared = await stack.enter_async_context(_replica(**flags))
                ways["hit in Redis"] = (shared, False)
            for ask, _ in ways.values():  # warms, and fills the caches
                await _cpu_us(ask, False)
            for _ in range(ROUNDS):
                for name, (ask, no_cache) in ways.items():
                    found.setdefault(name, []).append(await _cpu_us(ask, no_cache))
    return found


def main() -> None:
    found = asyncio.run(measure(sys.argv[1] if len(sys.argv) > 1 else None))
    base = found["computed, cache off"]
    print(f"{'':32}{'CPU µs':>10}{'of cache off':>16}")  # noqa: T201
    for name, values in found.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:32}{statistics.median(values):>10.0f}{statistics.median(ratios):>8.2f} ({spread})")  # noqa: T201


if __name__ == "__main__":
    main()
