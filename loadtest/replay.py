"""One run from start to finish: send a load, wait for the fleet's log of it, record both.

The thin shell over `sender`, `fleet_log` and `runs`: it owns Ctrl-C, the wait for the log and the live line.
Called by `cli`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest import sender
from loadtest.breach import Breach
from loadtest.fleet_log import FleetLog, read_fleet_log
from loadtest.identity import IdentityOptions
from loadtest.load import Duration, Load, flag
from loadtest.runs import RunData, RunRecord
from loadtest.senders import send_by_processes
from loadtest.summary import percentile_ms

# The scaler writes a row a second: the row after the run's end is there within this.
_LOG_WAIT_S = 3.0
_LOG_MARGIN_S = 3.0
_LOG_POLL_S = 0.2


def _host_and_port(target: str) -> str:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("allowed: HOST:PORT, e.g. 127.0.0.1:8500")
    return target


class RunOptions(BaseModel):
    """Where to send, under which name, and what is asked of the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=flag, populate_by_name=True)

    target: Annotated[str, AfterValidator(_host_and_port)]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] = "minwatt"
    deadline_s: Duration = 1.0
    slo_s: Duration | None = None
    connections: int = Field(default=16, ge=1, le=1024)
    processes: int = Field(default=1, ge=1, le=64)
    abort_over: Annotated[float, Field(ge=0, lt=1)] | None = None  # share of answers over the SLO
    fleet_log: Path | None = None


def run_load(load: Load, given: dict[str, str], options: RunOptions, who: IdentityOptions) -> RunData:
    """Sends the load and returns what was recorded; the live line goes to stderr. Raises UsageError.

    Ctrl-C ends the sending and keeps what was measured; a second one ends the process.
    """
    if options.fleet_log:
        read_fleet_log(options.fleet_log)  # that there is none should not be found out after the load
    result, aborted = asyncio.run(_send(load, options, who))
    record = RunRecord(
        name=options.name,
        target=options.target,
        started_unix_s=result.started_unix_s,
        duration_s=load.plan.duration_s,
        planned=len(load.plan),
        stopped_at_s=result.stopped_at_s,
        aborted=aborted,
        gap_s=load.gap_s,
        slo_s=options.slo_s,
        deadline_s=options.deadline_s,
        connections=options.connections,
        load=given,
    )
    log = _fleet_log(options.fleet_log, record) if options.fleet_log else None
    return RunData(record, result.outcomes, log)


async def _send(load: Load, options: RunOptions, who: IdentityOptions) -> tuple[sender.SendResult, str]:
    """What was measured, and why the run was given up, if it was."""
    stop = asyncio.Event()
    breach = None if options.abort_over is None else Breach(options.abort_over, options.slo_s)
    aborted = ""
    loop = asyncio.get_running_loop()

    def end_sending() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    loop.add_signal_handler(signal.SIGINT, end_sending)
    how = sender.SendOptions(deadline_s=options.deadline_s, connections=options.connections)
    with _bar() as bar:
        line = bar.add_task(options.name, total=load.plan.duration_s, said="connecting")

        def show(progress: sender.Progress) -> None:
            nonlocal aborted
            if breach is not None and not aborted:
                aborted = breach.add(progress.at_s, progress.last_outcomes)
                if aborted:
                    stop.set()
            bar.update(line, completed=min(progress.at_s, load.plan.duration_s), said=_said(progress))

        try:
            if options.processes > 1:
                result = await send_by_processes(
                    load.plan, options.target, how, who, options.processes, show, stop
                )
            else:
                how = replace(how, identity=who.identity(options.target))
                result = await sender.send(load.plan, options.target, how, show, stop)
            return result, aborted
        finally:
            loop.remove_signal_handler(signal.SIGINT)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


def _said(progress: sender.Progress) -> str:
    p99_ms = percentile_ms([outcome.latency_s for outcome in progress.last_outcomes], 99.0)
    lost = (
        f" · {progress.refused} refused · {progress.failed} failed"
        if progress.refused + progress.failed
        else ""
    )
    latency = "" if p99_ms is None else f" · p99 now {p99_ms:.0f} ms"
    return f"{progress.sent} of {progress.planned} sent{latency}{lost} · lag {1e3 * progress.lag_s:.0f} ms"


def _fleet_log(path: Path, record: RunRecord) -> FleetLog:
    """The log's rows around the run, once they reach past its end or no more can be expected."""
    start_s, end_s = record.started_unix_s, record.started_unix_s + record.span_s
    give_up_s = time.monotonic() + _LOG_WAIT_S
    while True:
        log = read_fleet_log(path)
        if (log.fleet and log.fleet[-1].at_s >= end_s) or time.monotonic() >= give_up_s:
            return log.between(start_s - _LOG_MARGIN_S, end_s + _LOG_MARGIN_S)
        try:
            time.sleep(_LOG_POLL_S)
        except KeyboardInterrupt:  # ends this wait: what was sent is measured, and is to be kept
            give_up_s = 0.0
