"""The command line of one local replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaler.local import tethered
from scaler.operating_point import OperatingPoint

# A connection stays with the replica that accepted it. The age bounds how long a new replica waits for its
# share of the clients: a flash crowd is over before the server's own default. Opening one anew costs about
# a millisecond.
_CONNECTION_AGE = "5s"


@dataclass(frozen=True, slots=True)
class DoorFiles:
    """What guards the replicas' doors, as `minwatt serve` has it; None: nothing."""

    tenants: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    def flags(self) -> Mapping[str, Path]:
        named = {
            "--tenants": self.tenants,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
            "--tls-client-ca": self.tls_client_ca,
        }
        return {flag: path for flag, path in named.items() if path is not None}


@dataclass(frozen=True, slots=True)
class ReplicaCommand:
    """`port` is the one all replicas share; `bus` where they join; `point` what they start at, with `variant`
    where it names none.
    """

    model: Path
    variant: str
    provider: str
    engine_threads: int
    host: str
    port: int
    bus: str
    meter: str
    point: OperatingPoint
    drain_grace_s: float
    gpu_clocks: bool
    node_agent: Path | None  # its socket; None: a replica sets its card itself
    door: DoorFiles

    def arguments(self, replica_id: str) -> Sequence[str]:
        point = self.point
        flags = {
            "--model": self.model,
            "--variant": point.variant or self.variant,
            "--provider": self.provider,
            "--engine-threads": self.engine_threads,
            "--host": self.host,
            "--port": self.port,
            "--metrics-port": 0,
            "--scaler": self.bus,
            "--replica-id": replica_id,
            "--meter": self.meter,
            "--slo": f"{point.slo_latency_s * 1e3:g}ms",
            "--max-batch-texts": point.max_batch_texts,
            "--max-batch-tokens": point.max_batch_tokens,
            "--max-delay": f"{point.max_delay_s * 1e3:g}ms",
            "--max-connection-age": _CONNECTION_AGE,
            "--drain-grace": f"{self.drain_grace_s:g}s",
            **self.door.flags(),
        }
        if self.node_agent is not None:
            flags["--node-agent"] = self.node_agent
        pairs = [word for flag, value in flags.items() for word in (flag, str(value))]
        switches = ["--reuse-port", *(["--gpu-clocks"] if self.gpu_clocks else [])]
        return tethered.command(["serve", *switches, *pairs])
