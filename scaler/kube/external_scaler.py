"""KEDA's external scaler: a cluster that must scale through KEDA scales by minwatt's desired replicas.

Owns the gRPC service and its port; the numbers are `desired_replicas`'. KEDA makes a HorizontalPodAutoscaler
with an AverageValue target of 1, so that the HPA wants ceil(metric / 1) replicas: the number itself
(docs/keda.md has what the HPA then does to it). Run by the controller while it leads.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from minwatt.v1.errors import UsageError
from scaler.grpc_tls import TlsFiles, credentials, tls_files, usable
from scaler.kube.desired_replicas import DesiredReplicas, NoSuchPolicyError, Undecided
from scaler.kube.keda import externalscaler_pb2 as pb
from scaler.kube.keda import externalscaler_pb2_grpc as pb_grpc

METRIC = "minwatt-desired-replicas"
TARGET = 1  # of the metric a replica
POLICY_KEY = "policy"  # of the trigger's metadata
ANNOTATION = "minwatt.dev/replicas: external"

_CLOSE_GRACE_S = 1.0
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two servers on one port would each be asked half of the questions
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Of the command."""

    address: str
    tls: TlsFiles | None = None

    def check(self) -> None:
        """Before this copy leads, which may be days after its start. Raises UsageError."""
        # gRPC takes a port over 65535, and listens on some other.
        named = re.fullmatch(r".+:(\d{1,5})", self.address, re.ASCII)
        if named is None or int(named[1]) > 65535:
            raise UsageError(f"--external-scaler = {self.address!r}: allowed: HOST:PORT, ports 0 to 65535")
        if self.tls is not None:
            usable(self.tls)


def listen_options(
    address: str | None, certificate: Path | None, key: Path | None, client_ca: Path | None
) -> ListenOptions | None:
    """From what the command line says; None: KEDA asks nothing here. Raises UsageError."""
    if address is None:
        if certificate or key or client_ca:
            raise UsageError("--external-scaler-tls-*: need --external-scaler")
        return None
    return ListenOptions(address, tls_files("--external-scaler-tls", certificate, key, client_ca))


class ExternalScaler:
    """Made by `listen`; everything runs on the event loop it was made on."""

    def __init__(self, server: grpc.aio.Server, service: _Service, address: str) -> None:
        self._server = server
        self._service = service
        self.address = address  # host:port for a trigger's scalerAddress

    @classmethod
    async def listen(cls, options: ListenOptions, desired: DesiredReplicas) -> ExternalScaler:
        """Starts to serve; port 0 is chosen by the OS. Raises UsageError: of the address or the files."""
        options.check()
        address = options.address
        server, service = grpc.aio.server(options=_OPTIONS), _Service(desired)
        pb_grpc.add_ExternalScalerServicer_to_server(service, server)
        try:
            port = (
                server.add_insecure_port(address)
                if options.tls is None
                else server.add_secure_port(address, credentials(options.tls))
            )
        except RuntimeError as error:
            message = f"--external-scaler = {address!r}: can't listen there; is the port taken?"
            raise UsageError(message) from error
        await server.start()
        return cls(server, service, f"{address.rpartition(':')[0]}:{port}")

    async def close(self) -> None:
        """Ends the streams in good order, so that KEDA asks another copy."""
        self._service.closing.set()
        await self._server.stop(grace=_CLOSE_GRACE_S)


class _Service(pb_grpc.ExternalScalerServicer):
    def __init__(self, desired: DesiredReplicas) -> None:
        self.closing = asyncio.Event()
        self._desired = desired

    async def IsActive(  # noqa: N802
        self, request: pb.ScaledObjectRef, context: _Context
    ) -> pb.IsActiveResponse:
        """Always: a policy's fleet has one replica or more, a silent one too."""
        await self._look_up(request, context)
        return pb.IsActiveResponse(result=True)

    async def StreamIsActive(  # type: ignore[override]  # noqa: N802 - the stub returns an iterator
        self, request: pb.ScaledObjectRef, context: _Context
    ) -> None:
        """At once and with each new number, until the policy is not scaled from outside any more.

        It wakes KEDA, which then looks; the HPA is not woken by it.
        """
        told: int | Undecided | None = None
        closing = asyncio.create_task(self.closing.wait())
        try:
            while not closing.done():
                change = self._desired.next_change
                now = await self._look_up(request, context)
                if now != told:
                    await context.write(pb.IsActiveResponse(result=True))
                    told = now
                changed = asyncio.create_task(change.wait())
                try:
                    await asyncio.wait({closing, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            closing.cancel()

    async def GetMetricSpec(  # noqa: N802
        self, request: pb.ScaledObjectRef, context: _Context
    ) -> pb.GetMetricSpecResponse:
        """The same for all, before anything is decided too."""
        await self._look_up(request, context)
        spec = pb.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=TARGET)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(  # noqa: N802
        self, request: pb.GetMetricsRequest, context: _Context
    ) -> pb.GetMetricsResponse:
        """The desired replicas. There is one metric: the name in the request says nothing more.

        UNAVAILABLE while no number is known. The HPA then changes nothing, and KEDA falls back after as many
        failures as its ScaledObject has; a made-up number would be acted on.
        """
        desired = await self._look_up(request.scaledObjectRef, context)
        if isinstance(desired, Undecided):
            await context.abort(grpc.StatusCode.UNAVAILABLE, desired.why)
        value = pb.MetricValue(metricName=METRIC, metricValue=desired, metricValueFloat=desired)
        return pb.GetMetricsResponse(metricValues=[value])

    async def _look_up(self, of: pb.ScaledObjectRef, context: _Context) -> int | Undecided:
        """Of the policy in the ScaledObject's own namespace: no tenant reads another's."""
        name = of.scalerMetadata.get(POLICY_KEY, "")
        if not name or not of.namespace:
            missing = "namespace" if not of.namespace else f"scalerMetadata.{POLICY_KEY}"
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{missing} is missing; a trigger's metadata names a PowerPolicy of its ScaledObject's "
                f"namespace: {POLICY_KEY}: NAME",
            )
        try:
            return self._desired.of(of.namespace, name)
        except NoSuchPolicyError as error:
            there = f"there are: {', '.join(error.others)}" if error.others else "there is none"
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no PowerPolicy {name!r} with the annotation {ANNOTATION} in namespace {of.namespace!r}; "
                f"{there}",
            )
