"""A node agent for tests: in this process on cards in memory, or as a process on the stand-in for NVML."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nodeagent.cards import Node
from nodeagent.journal import Journal
from nodeagent.keeper import Keeper
from nodeagent.peers import owner_of as real_owner_of
from nodeagent.policy import NodePolicy
from nodeagent.server import AgentServer, Limits
from nodeagent.socket_file import SocketFile
from nodeagent.watts import Sight, Watts
from tests.nodeagent.in_memory import Disk, Machine, owner_of, policy

TIMEOUT_S = 60


def owner(pid: int) -> str:
    """This process's own is real: it is the peer."""
    return real_owner_of(pid) if pid == os.getpid() else owner_of(pid)


def own_user(**fields: Any) -> NodePolicy:
    return policy(allow={"uids": [os.getuid()]}, **fields)


@contextlib.asynccontextmanager
async def listening(
    path: Path, machine: Machine, node_policy: NodePolicy | None = None, limits: Limits | None = None
) -> AsyncIterator[AgentServer]:
    """An agent in this process."""
    keeper = Keeper(
        Node(machine.find, machine.open, owner), Journal(Disk(), "boot"), node_policy or own_user()
    )
    keeper.recover(time.monotonic())
    watts = Watts(Sight(machine.open, owner, time.monotonic))
    server = AgentServer(keeper, watts, limits or Limits())
    place = SocketFile(path)
    await server.listen(path)
    task = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert await server.close() == ()
        place.close()


class Line:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, path: Path) -> Line:
        return cls(*await asyncio.open_unix_connection(path))

    async def say(self, line: bytes) -> dict[str, Any]:
        self.writer.write(line)
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            reply: dict[str, Any] = json.loads(await self.reader.readline())
        return reply

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return await self.say(json.dumps({"op": op, **fields}).encode() + b"\n")

    async def ended(self) -> bool:
        """Whether the agent has closed the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class AgentProcess:
    """`minwatt node-agent` with its files under a folder. Ready when entered, gone when left."""

    def __init__(self, folder: Path, *flags: str, environ: Mapping[str, str] | None = None) -> None:
        self.socket = folder / "run" / "agent.sock"
        self.state = folder / "state"
        command = [sys.executable, "-m", "minwatt", "node-agent", "--socket", str(self.socket)]
        command += ["--state-dir", str(self.state), *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_out, daemon=True),
            threading.Thread(target=self._read_err, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        self.ready = self.lines.get(timeout=TIMEOUT_S)
        assert self.ready.startswith("ready: "), f"{self.ready!r}; stderr: {self.stderr}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    @property
    def stderr(self) -> str:
        return "".join(self.errors)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join(TIMEOUT_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)
