"""The whole system on one machine: bus, loop, and replicas as processes that share a port.

Assembles and disassembles; decides nothing. Called by `minwatt up`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET
from minwatt.v1.model_dir import ModelDirectory
from minwatt.v1.variant_rule import accurate_enough
from scaler.bus import FleetBus
from scaler.control import first_point
from scaler.control_state import start_fresh
from scaler.dashboard.options import DashboardOptions
from scaler.decision import Decision
from scaler.embedded_bus import EmbeddedHub
from scaler.fleet_joules import FleetJoules
from scaler.inputs import Inputs
from scaler.local.command import DoorFiles, ReplicaCommand
from scaler.local.port import SharedPort
from scaler.local.processes import LocalFleet, LocalRules
from scaler.loop import ControlLoop, Surroundings, Watcher, beats
from scaler.metrics import Metrics
from scaler.record import FleetRow, Record
from scaler.settings import Settings
from scaler.terminal import Terminal

_DRAIN_GRACE_S = 10.0
_KILL_AFTER_S = _DRAIN_GRACE_S + 5.0  # a replica that keeps its word is gone before
_BEAT_S = 1.0
_AGENT = "agent"  # the meter that reads through it
_LEAST_START_LIMIT_S = 120.0
_SLOWEST_START = 10.0  # times the profile's: on a machine with much else to do


@dataclass(frozen=True, slots=True)
class UpOptions:
    model: Path
    host: str
    port: int
    metrics_port: int
    meter: str
    node_agent: Path | None  # its socket
    record: Path | None
    door: DoorFiles
    dashboard: DashboardOptions


@dataclass(frozen=True, slots=True)
class _Ways:
    """How requests come to the replicas, and how they and the loop hear one another."""

    port: SharedPort
    bus_address: str
    bus: FleetBus


class _ReadyLine:
    """Says once that the fleet has its fewest replicas."""

    def __init__(self, say: Callable[[str], None], least: int, where: str) -> None:
        self._say = say
        self._least = least
        self._where = where
        self._said = False

    def observed(self, row: FleetRow) -> None:
        if not self._said and row.replicas_ready >= self._least:
            self._said = True
            self._say(f"ready: {self._where} · replicas {row.replicas_ready}")

    def decided(self, decision: Decision, at_s: float) -> None:
        """Decisions are for the terminal."""


async def run_up(inputs: Inputs, options: UpOptions, say: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; then the replicas drain. Raises UsageError."""
    for line in inputs.lines:
        say(line)
    settings = _as_served(inputs.settings, options.model, say)
    _agent_of_use(settings, options)
    async with AsyncExitStack() as stack:
        port = stack.enter_context(SharedPort.reserve(options.host, options.port))
        metrics = Metrics()
        stack.callback(metrics.close)
        where = f"grpc {port.address} · metrics {metrics.serve(options.host, options.metrics_port)}"
        dashboard = options.dashboard.opened()
        if dashboard is not None:
            stack.push_async_callback(dashboard.close)
            where += f" · dashboard {await dashboard.listen()}"
        watchers: list[Watcher] = [
            _ReadyLine(say, settings.limits.min_replicas, where),
            Terminal(say),
            metrics.of("", settings.policy),
        ]
        if options.record is not None:
            record = Record.into(options.record, say)
            stack.callback(record.close)
            watchers.append(record)
        hub = await EmbeddedHub.listen()
        stack.push_async_callback(hub.close)
        bus: FleetBus = hub.fleet(DEFAULT_FLEET)
        if dashboard is not None:
            board = dashboard.of(settings.policy.metadata.name, settings)
            watchers.append(board)
            bus = board.read_along(bus)
        await _run(settings, options, _Ways(port, hub.address, bus), watchers, say)


async def _run(
    settings: Settings,
    options: UpOptions,
    ways: _Ways,
    watchers: list[Watcher],
    say: Callable[[str], None],
) -> None:
    clock = time.monotonic
    point = first_point(settings)
    profile = settings.profile
    command = ReplicaCommand(
        model=options.model,
        variant=profile.allowed_variants(settings.limits.variants)[0].name,
        provider=profile.replica.provider,
        engine_threads=profile.replica.engine_threads,
        host=ways.port.host,
        port=ways.port.number,
        bus=ways.bus_address,
        meter=options.meter,
        point=point,
        drain_grace_s=_DRAIN_GRACE_S,
        gpu_clocks=_gpu_clocks(settings),
        node_agent=options.node_agent,
        door=options.door,
    )

    def arguments(replica_id: str) -> Sequence[str]:
        """Of a replica that starts now: at what the others were told last."""
        return replace(command, point=control.point or point).arguments(replica_id)

    fleet = LocalFleet(arguments, _local_rules(settings), clock=clock, say=say)
    around = Surroundings(ways.bus, fleet, watchers, time.time)
    control = ControlLoop(settings, start_fresh(clock(), point), around, FleetJoules(owns_processes=True))
    stopped = stop_on_signals(fleet.kill)
    try:
        await control.run(beats(min(_BEAT_S, settings.tick_s), clock, stopped))
    finally:
        await fleet.close()
        await control.settle(clock())


def _gpu_clocks(settings: Settings) -> bool:
    """Whether replicas may be told a clock."""
    return settings.policy.spec.gpu.clocks == "auto" and settings.profile.replica.provider != "cpu"


def _agent_of_use(settings: Settings, options: UpOptions) -> None:
    """Said here, in one line: else each replica refuses to start. Raises UsageError."""
    if options.meter == _AGENT and options.node_agent is None:
        raise UsageError("--meter = 'agent': needs --node-agent, its socket")
    if options.node_agent is not None and options.meter != _AGENT and not _gpu_clocks(settings):
        raise UsageError(
            f"--node-agent = {str(options.node_agent)!r}: of no use: replicas set no clocks (provider "
            f"{settings.profile.replica.provider}, spec.gpu.clocks {settings.policy.spec.gpu.clocks}) "
            "and --meter is not agent"
        )


def _local_rules(settings: Settings) -> LocalRules:
    return LocalRules(
        drain_timeout_s=_KILL_AFTER_S,
        start_timeout_s=max(_LEAST_START_LIMIT_S, _SLOWEST_START * settings.profile.start_up.seconds),
        max_starting=max(1, (os.cpu_count() or 1) // 2),
        stale_after_s=settings.policy.spec.telemetry.stale_after_s,
    )


def stop_on_signals(at_once: Callable[[], None]) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one calls `at_once`."""
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            at_once()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopped


def _as_served(settings: Settings, path: Path, say: Callable[[str], None]) -> Settings:
    """With those variants alone that the model has, and that it states to be as accurate as the policy asks.

    Raises UsageError where the model is another, or has none of them.
    """
    model = ModelDirectory.open(path)
    spec, profile = settings.policy.spec, settings.profile
    if model.spec.name != spec.model:
        raise UsageError(
            f"--model = {str(path)!r}: it is {model.spec.name!r}, the policy asks for {spec.model!r}"
        )
    wanted = [one.name for one in profile.allowed_variants(spec.variants.allow, spec.variants.min_accuracy)]
    there = [name for name in wanted if name in model.present_variants()]
    if not there:
        model.variant_file(wanted[0])
    faults = {name: _too_inaccurate(model, name, spec.variants.min_accuracy) for name in there}
    fine = [name for name, fault in faults.items() if not fault]
    if not fine:
        raise UsageError(faults[there[0]])
    for name in wanted:
        if name not in fine:
            say(f"variant {name} is left out: {faults.get(name) or f'{path} does not have it'}")
    return replace(settings, policy=settings.policy.with_variants(fine))


def _too_inaccurate(model: ModelDirectory, variant: str, least: float | None) -> str:
    """Empty: it is as accurate as asked."""
    if least is None:
        return ""
    metrics = model.spec.variants[variant].metrics
    accuracies = {name: value for name, value in metrics.items() if name.endswith("accuracy")}
    low = [f"{name} {value:g}" for name, value in accuracies.items() if not accurate_enough(value, least)]
    if accuracies and not low:
        return ""
    known = ", ".join(low) or "no accuracy is known"
    return f"spec.variants.minAccuracy = {least:g}: {model.spec.name} {variant} has {known}"
