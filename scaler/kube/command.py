"""`minwatt scale --kubernetes`: assembles the controller, runs it until SIGTERM, takes it apart.

Decides nothing. Called by `scaler.cli`, which imports it only then: the `kubernetes` client is an extra.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from minwatt.resources import default_profile
from minwatt.v1.errors import UsageError
from scaler.bus import Hub
from scaler.bus_opening import BusOptions, open_hub
from scaler.dashboard.options import DashboardOptions
from scaler.kube.api import KubeApi
from scaler.kube.controller import Controller, Surroundings
from scaler.kube.desired_replicas import DesiredReplicas
from scaler.kube.election import Election
from scaler.kube.errors import ApiError, NotFoundError
from scaler.kube.external_scaler import ExternalScaler, ListenOptions
from scaler.kube.health import Health
from scaler.kube.policy_run import Shared
from scaler.kube.profile_files import ProfileFiles
from scaler.kube.profiles import Library, read_library
from scaler.kube.target import Kinds
from scaler.kube.watches import Watches
from scaler.local.up import stop_on_signals
from scaler.metrics import Metrics
from scaler.profile import load_profile

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_IDENTITY = re.compile(r"[!-~]{0,110}", re.ASCII)
_LONGEST_IDENTITY = 110  # with what is added, an Event's reportingInstance holds 128


@dataclass(frozen=True, slots=True)
class KubeOptions:
    """`namespaces` empty: all. `lease_namespace` and `identity` empty: the pod's own."""

    bus: BusOptions
    profiles: Path | None = None
    kubeconfig: Path | None = None
    context: str = ""
    namespaces: tuple[str, ...] = ()
    lease_namespace: str = ""
    lease_name: str = "minwatt-scaler"
    identity: str = ""
    metrics_port: int = 9090
    health_port: int = 8081
    external: ListenOptions | None = None
    dashboard: DashboardOptions | None = None  # none is served


def _since_boot_s() -> float:
    """Where there is such a clock it goes on while the machine is suspended: who slept through a lease must
    know it on waking."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class Clocks:
    """`lease_s` None: as `monotonic_s`."""

    monotonic_s: Callable[[], float]
    unix_s: Callable[[], float]
    lease_s: Callable[[], float] | None = None


MACHINE = Clocks(time.monotonic, time.time, _since_boot_s)


async def run_kube(
    options: KubeOptions,
    say: Callable[[str], None],
    *,
    clocks: Clocks = MACHINE,
    stopped: asyncio.Event | None = None,
) -> None:
    """Until SIGTERM or SIGINT; replicas go on at their last operating point. Raises UsageError."""
    clock, unix_s = clocks.monotonic_s, clocks.unix_s
    profiles, lease_namespace, external = _profiles(options.profiles), _checked(options), options.external
    for line in profiles.library.lines:
        say(line)
    stopped = stopped or stop_on_signals(lambda: None)
    rng = random.Random()
    async with AsyncExitStack() as stack:
        metrics = Metrics(clock)
        stack.callback(metrics.close)
        served = metrics.serve(options.bus.host, options.metrics_port)
        dashboard = None if options.dashboard is None else options.dashboard.opened()
        if dashboard is not None:
            stack.push_async_callback(dashboard.close)
            served += f" · dashboard {await dashboard.listen()}"
        api = await KubeApi.connect(options.kubeconfig, options.context, _counted(metrics))
        stack.push_async_callback(api.close)
        watches = Watches(api, clock, rng)
        stack.push_async_callback(watches.close)
        election = Election(
            api,
            lease_namespace,
            options.lease_name,
            _identity(options.identity),
            clock=clocks.lease_s or clock,
            unix_s=unix_s,
            rng=rng,
        )
        desired, kinds = DesiredReplicas(clock), Kinds(api, clock)

        def shared(writes: KubeApi, hub: Hub) -> Shared:
            return Shared(
                api=writes,
                watches=watches,
                kinds=kinds,
                fleets=hub,
                metrics=metrics,
                dashboard=dashboard,
                desired=desired,
                may_act=lambda: election.may_act,
                clock=clock,
                unix_s=unix_s,
                rng=rng,
                say=say,
            )

        around = Surroundings(
            api=api,
            election=election,
            watches=watches,
            profiles=profiles,
            metrics=metrics,
            open_hub=lambda: open_hub(options.bus),
            open_external=None if external is None else lambda: ExternalScaler.listen(external, desired),
            shared=shared,
            say=say,
        )
        controller = Controller(around, options.namespaces)
        health = await Health.listen(options.bus.host, options.health_port, lambda: controller.ready)
        stack.push_async_callback(health.close)
        where = ", ".join(options.namespaces) or "all namespaces"
        say(f"ready: policies of {where} · metrics {served} · health port {health.port}")
        await controller.run(stopped)


def _counted(metrics: Metrics) -> Callable[[str, ApiError], None]:
    """What is not there is an answer, and no error: KEDA's kinds, for one."""

    def failed(verb: str, error: ApiError) -> None:
        if not isinstance(error, NotFoundError):
            metrics.api_error(verb, error.status or None)

    return failed


def _profiles(directory: Path | None) -> ProfileFiles:
    """The shipped profile where no directory is named. Raises UsageError."""
    if directory is not None:
        return ProfileFiles(read_library(directory), directory)
    shipped = default_profile()
    return ProfileFiles(Library({shipped.name: load_profile(shipped)}), None)


def _checked(options: KubeOptions) -> str:
    """The lease's namespace. Raises UsageError, also of what is needed only once this copy leads: that may be
    days after its start."""
    options.bus.check()
    if options.external is not None:
        options.external.check()
    for name in options.namespaces:
        _named("--namespace", name, _DNS_LABEL)
    _named("--lease-name", options.lease_name, _DNS_NAME)
    if _IDENTITY.fullmatch(options.identity) is None:
        raise UsageError(f"--identity = {options.identity!r}: allowed: up to 110 ASCII characters, no blanks")
    namespace = options.lease_namespace or _pod_namespace()
    if not namespace:
        raise UsageError("--lease-namespace: needed where the controller runs in no pod")
    _named("--lease-namespace", namespace, _DNS_LABEL)
    return namespace


def _named(option: str, name: str, allowed: re.Pattern[str]) -> None:
    if allowed.fullmatch(name) is None:
        raise UsageError(f"{option} = {name!r}: allowed: a Kubernetes name: a-z, 0-9 and '-'")


def _pod_namespace() -> str:
    try:
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _identity(name: str) -> str:
    """Never twice the same: two copies that were given one name must not take each other for themselves."""
    return f"{(name or socket.gethostname())[:_LONGEST_IDENTITY]}_{secrets.token_hex(4)}"
