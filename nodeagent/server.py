"""The unix socket: who connects, one line in, one line out, and what ends with a connection.

The only place that knows the event loop. Cards are set on one thread (`keeper`) and read on another
(`watts`). Called by `cli`.

A lease ends when it runs out, and when its connection closes: the kernel closes a dead replica's at once, so
that its card is not held for the rest of the time; the time is for replicas that hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import (
    MOST_REQUEST_BYTES,
    Failure,
    Hello,
    LeaseRequest,
    ReadRequest,
    ReleaseReply,
    ReleaseRequest,
    RenewRequest,
    Reply,
    Request,
    Welcome,
    parse_request,
    to_line,
)
from nodeagent.keeper import Holder, Keeper, Refusal
from nodeagent.peers import Peer, peer_of
from nodeagent.policy import NodePolicy
from nodeagent.watts import READ_EVERY_S, Watts

MOST_TOLD = 100
LONGEST_WAIT_S = 10.0  # between two looks after the cards, also where nothing is due: it shows that it lives

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """connections: open at a time, in all and of one owner. idle_s: without a line; then it is closed."""

    connections: int = 512
    owner_connections: int = 64
    idle_s: float = 120.0
    write_s: float = 5.0


class AgentServer:
    """`listen`, then `run` until cancelled, then `close`."""

    def __init__(self, keeper: Keeper, watts: Watts, limits: Limits = Limits()) -> None:
        self.counts: Counter[str] = Counter()  # accepted, denied, busy, and requests by op and outcome
        self.ticked_s = time.monotonic()  # when the cards were looked after last
        self.keeper = keeper
        self.watts = watts
        self._limits = limits
        self._numbers = itertools.count(1)
        self._open: Counter[str] = Counter()  # connections by owner
        self._denied: set[tuple[int, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._setting = ThreadPoolExecutor(1, thread_name_prefix="set")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return self._open.total()

    async def listen(self, path: Path) -> None:
        """On a free `path`. Anyone may connect; who it is decides. Raises UsageError."""
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, path, limit=MOST_REQUEST_BYTES, backlog=128
            )
            os.chmod(path, 0o666)  # noqa: S103 - anyone may connect: who it is decides
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(f"socket = {path}: {reason}") from error

    async def run(self) -> None:
        """Keeps the cards as they are to be and reads their watts. Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep())
            tasks.create_task(self._read())

    async def close(self) -> tuple[str, ...]:
        """Ends all connections and restores the cards. Returns those that could not be."""
        if self._server is not None:
            self._server.close()
        await self.end_connections()
        owed = await self._set(self.keeper.close)
        await self._on(self._reading, self.watts.close)
        self._setting.shutdown(wait=False)
        self._reading.shutdown(wait=False)
        return owed

    async def follow(self, policy: NodePolicy) -> None:
        """From here on. All connections end, and with them what was leased under the one before."""
        self.keeper.policy = policy
        self._denied.clear()
        await self.end_connections()

    async def end_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            next_s = await self._set(lambda: self.keeper.tick(time.monotonic()))
            self.ticked_s = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(0.0, next_s - self.ticked_s), LONGEST_WAIT_S)):
                    await self._changed.wait()

    async def _read(self) -> None:
        while True:
            await self._on(self._reading, lambda: self.watts.poll(self.keeper.cards.present))
            await asyncio.sleep(READ_EVERY_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it left, or says nothing
        except asyncio.CancelledError:
            pass  # the agent ends it
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        why_not = self._why_not(peer)
        if why_not is not None:
            self.counts[why_not.code] += 1
            await self._write(writer, why_not)
            return
        self.counts["accepted"] += 1
        holder = Holder(next(self._numbers), peer.owner)
        self._open[peer.owner] += 1
        try:
            await self._answer_all(holder, reader, writer)
        finally:
            self._open[peer.owner] -= 1
            if not self._open[peer.owner]:
                del self._open[peer.owner]
            # To the end, although this task may be cancelled.
            await asyncio.shield(self._set(lambda: self.keeper.left(holder.connection, time.monotonic())))
            self._changed.set()

    def _why_not(self, peer: Peer) -> Failure | None:
        if not peer.allowed_by(self.keeper.policy.allow):
            if (peer.uid, peer.gid) not in self._denied and len(self._denied) < MOST_TOLD:
                self._denied.add((peer.uid, peer.gid))  # once: who is denied can't fill the log
                log.warning("denied: user %d, group %d, first %s", peer.uid, peer.gid, peer.owner)
            message = f"user {peer.uid}, group {peer.gid}: the node's policy allows neither"
            return Failure(code="denied", message=message)
        if self.connections >= self._limits.connections:
            return Failure(code="busy", message=f"{self._limits.connections} connections are open")
        if self._open[peer.owner] >= self._limits.owner_connections:
            message = f"{self._limits.owner_connections} connections of {peer.owner} are open"
            return Failure(code="busy", message=message)
        return None

    async def _answer_all(
        self, holder: Holder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    line = await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                self.counts["invalid"] += 1
                message = f"line: longer than {MOST_REQUEST_BYTES} bytes"
                await self._write(writer, Failure(code="invalid", message=message))
                return
            await self._write(writer, await self._reply(holder, line))

    async def _reply(self, holder: Holder, line: bytes) -> Reply:
        try:
            request = parse_request(line)
        except UsageError as error:
            self.counts["invalid"] += 1
            return Failure(code="invalid", message=str(error))
        try:
            reply = await self._do(holder, request)
        except Refusal as refusal:
            reply = Failure(code=refusal.code, message=str(refusal))
        self.counts[f"{request.op} {reply.code if isinstance(reply, Failure) else 'ok'}"] += 1
        return reply

    async def _do(self, holder: Holder, request: Request) -> Reply:
        """Raises Refusal."""
        match request:
            case Hello():
                cards = await self._set(self.keeper.describe)
                return Welcome(you=holder.owner, longest_ttl_s=self.keeper.policy.max_ttl_s, cards=cards)
            case LeaseRequest():
                return await self._change(lambda: self.keeper.grant(holder, request, time.monotonic()))
            case RenewRequest():
                return await self._change(lambda: self.keeper.renew(holder, request, time.monotonic()))
            case ReleaseRequest():
                held = await self._change(lambda: self.keeper.release(holder, request.card, time.monotonic()))
                return ReleaseReply(held=held)
            case ReadRequest():
                uuid, part = await self._set(lambda: self.keeper.part(holder.owner, request.card))
                return await self._on(self._reading, lambda: self.watts.read(uuid, part))

    async def _change(self, act: Callable[[], _Result]) -> _Result:
        try:
            return await self._set(act)
        finally:
            self._changed.set()

    async def _set(self, act: Callable[[], _Result]) -> _Result:
        return await self._on(self._setting, act)

    async def _on(self, thread: ThreadPoolExecutor, act: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(thread, act)

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        writer.write(to_line(reply))
        async with asyncio.timeout(self._limits.write_s):
            await writer.drain()
