"""`minwatt node-agent`: flags to settings, settings to an agent, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from energy.nvml import NvmlGpu, present_gpus
from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import SOCKET
from nodeagent import logs
from nodeagent.cards import Node
from nodeagent.journal import Journal, JournalFile, boot_id
from nodeagent.keeper import Keeper
from nodeagent.metrics import Metrics
from nodeagent.peers import owner_of
from nodeagent.policy import own_user_only, read_policy
from nodeagent.server import AgentServer
from nodeagent.settings import STATE_DIR, AgentSettings
from nodeagent.socket_file import SocketFile
from nodeagent.watts import Sight, Watts

STOP_S = 10.0  # for giving the cards back; a driver that hangs does not keep the agent from leaving

log = logging.getLogger(__name__)


def _flag(text: str, default: str | None = None) -> typer.models.OptionInfo:
    shown = "" if default is None else f" [default: {default}]"
    option: typer.models.OptionInfo = typer.Option(help=text + shown)
    return option


def node_agent(
    socket: Annotated[Path | None, _flag("Unix socket to listen on.", SOCKET)] = None,
    state_dir: Annotated[
        Path | None, _flag("Where what is set is written down, for the next start.", STATE_DIR)
    ] = None,
    policy: Annotated[
        Path | None,
        _flag("YAML file: who may ask for how much; SIGHUP reads it anew.", "root and the agent's own user"),
    ] = None,
    host: Annotated[str | None, _flag("Address of the metrics.", "127.0.0.1")] = None,
    metrics_port: Annotated[int | None, _flag("Prometheus port; 0 takes a free one.", "none")] = None,
    log_format: Annotated[str | None, _flag("text or json, one line an event.", "text")] = None,
    log_level: Annotated[str | None, _flag("debug, info, warning or error.", "info")] = None,
) -> None:
    """Sets this node's GPU clocks and power limits for others, as leases; reads watts for who can't.

    Needs root (CAP_SYS_ADMIN). At SIGTERM, and at its start after a crash, every card it set is given back.

    Example: minwatt node-agent --policy node-policy.yaml
    """
    settings = AgentSettings.of_flags(**locals())
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(asyncio.run(_run(settings)))


async def _run(settings: AgentSettings) -> int:
    node_policy = own_user_only() if settings.policy is None else read_policy(settings.policy)
    stop, reload = _signals()
    async with contextlib.AsyncExitStack() as stack:
        file = JournalFile(settings.state_dir)
        stack.callback(file.close)
        place = SocketFile(settings.socket)
        stack.callback(place.close)
        journal = Journal(file, boot_id())
        if journal.note:
            log.warning("%s", journal.note)
        keeper = Keeper(Node(present_gpus, NvmlGpu.open, owner_of), journal, node_policy)
        server = AgentServer(keeper, Watts(Sight(NvmlGpu.open, owner_of, time.monotonic)))
        await asyncio.to_thread(lambda: keeper.recover(time.monotonic()))
        await server.listen(place.path)
        metrics = Metrics(server)
        stack.callback(metrics.close)
        where = ""
        if settings.metrics_port is not None:
            try:
                port = metrics.serve(settings.host, settings.metrics_port)
            except UsageError:
                await _stopped(server)  # somebody may have asked for a lease already
                raise
            where = f" · metrics http://{settings.host}:{port}/metrics"
        _print(f"ready: socket {settings.socket} · {_cards(keeper)}{where}")
        broken = await _until_stopped(settings, server, stop, reload)
        return await _stopped(server) or int(broken)


async def _until_stopped(
    settings: AgentSettings, server: AgentServer, stop: asyncio.Event, reload: asyncio.Event
) -> bool:
    """A loop that breaks ends the agent: it must not stay up and hang. Whether one did."""
    loop = asyncio.create_task(server.run())
    following = asyncio.create_task(_follow(settings, server, reload))
    stopped = asyncio.create_task(stop.wait())
    tasks = {loop, following, stopped}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        broken = [error for task in done if (error := task.exception()) is not None]
        for error in broken:
            log.error("the agent ends", exc_info=error)
        return bool(broken)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _follow(settings: AgentSettings, server: AgentServer, reload: asyncio.Event) -> None:
    """Until cancelled. A policy that is not understood changes nothing."""
    while True:
        await reload.wait()
        reload.clear()
        if settings.policy is None:
            log.info("SIGHUP: there is no policy file to read anew")
            continue
        try:
            node_policy = read_policy(settings.policy)
        except UsageError as error:
            log.error("%s; the last good policy stays in force", error)
        else:
            await server.follow(node_policy)
            log.info("%s: in force", settings.policy)


async def _stopped(server: AgentServer) -> int:
    """0 where every card is as it was."""
    try:
        async with asyncio.timeout(STOP_S):
            owed = await server.close()
    except TimeoutError:
        log.error("the driver doesn't answer: what is set is restored at the next start")
        os._exit(1)
    for uuid in owed:
        log.error("%s: could not be restored: it is at the next start", uuid)
    return 1 if owed else 0


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set by SIGTERM and SIGINT; by SIGHUP."""
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    return stop, reload


def _cards(keeper: Keeper) -> str:
    present = keeper.cards.present
    return f"cards {', '.join(present)}" if present else keeper.cards.none_because


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output
