"""The server's own front end around a service that sends each message back: what RPC costs, and nothing else.

    python -m bench.serving.front_echo

Prints its address; ends with SIGTERM. Started by `run`.
"""

from __future__ import annotations

import asyncio
import signal

from bench.serving.echo import STREAM, UNARY
from service import event_loop
from service.calls import Call, Service, StreamCall
from service.door import Door, DoorOptions
from service.settings import ServeSettings


async def _unary(message: bytes, _call: Call) -> bytes:
    return message


async def _stream(call: StreamCall) -> None:
    while (message := await call.read()) is not None:
        await call.write(message)


async def main() -> None:
    settings = ServeSettings(port=0)
    door = Door(
        DoorOptions(
            settings.host,
            settings.port,
            settings.reuse_port,
            settings.max_message_bytes,
            settings.max_connection_age_s,
            settings.max_connection_streams,
        )
    )
    service, unary = UNARY.strip("/").split("/")
    echo = Service(service, unary={unary: _unary}, streams={STREAM.rpartition("/")[2]: _stream})
    address = await door.open([echo])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"ready: grpc {address}", flush=True)  # noqa: T201 - the process's answer
    await stop.wait()
    await door.close(1.0)


if __name__ == "__main__":
    event_loop.run(main())
