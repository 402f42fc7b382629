"""The floor: a bare `grpc.aio` server that sends each message back, and nothing else.

    python -m bench.serving.echo

Prints its address; ends with SIGTERM. Started by `run`.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc

UNARY, STREAM = "/bench.Echo/Unary", "/bench.Echo/Stream"

Context = grpc.aio.ServicerContext[bytes, bytes]


async def _unary(message: bytes, _context: Context) -> bytes:
    return message


async def _stream(_messages: object, context: Context) -> None:
    while True:
        message: Any = await context.read()
        if message is grpc.aio.EOF:
            return
        await context.write(message)


async def main() -> None:
    server = grpc.aio.server()
    service, unary = UNARY.strip("/").split("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        unary: grpc.unary_unary_rpc_method_handler(_unary),
        STREAM.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"ready: grpc 127.0.0.1:{port}", flush=True)  # noqa: T201 - the process's answer
    await stop.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    asyncio.run(main())
