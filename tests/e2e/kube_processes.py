"""Controllers as processes, and replicas that join them over the real bus, for each pod that is ready."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from minwatt.v1 import fleet_pb2
from minwatt.v1.fleet_pb2_grpc import FleetStub
from scaler.latency_sketch import encode
from tests.kube_api.reach import is_ready
from tests.kube_api.stand_in import KubeApi

START_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
REPORT_EVERY_S = 0.5
TEXT_TOKENS = 16
_SERVICE_S = 0.006  # a text, alone


class ControllerProcess:
    """`minwatt scale --kubernetes` on free ports; gone when left."""

    def __init__(self, kubeconfig: Path, profiles: Path, lease_namespace: str, identity: str) -> None:
        command = [sys.executable, "-m", "minwatt", "scale", "--kubernetes"]
        command += ["--kubeconfig", str(kubeconfig), "--profiles", str(profiles)]
        command += ["--lease-namespace", lease_namespace, "--identity", identity]
        command += ["--listen", "127.0.0.1:0", "--metrics-port", "0", "--health-port", "0"]
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def fleets_join(self) -> str:
        """The bus of its present term; empty: it does not lead."""
        for line in reversed(self.said):
            if "leading no more" in line:
                return ""
            found = re.search(r"leading as .* fleets join (\S+)", line)
            if found is not None:
                return found[1]
        return ""

    def stop_still(self) -> None:
        """Until `go_on`: it does not even notice that time passes."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        if self.process.stdout is not None:
            self.said.extend(iter(self.process.stdout.readline, ""))


@dataclass
class _Replica:
    """What one pod has done since its start."""

    began_s: float
    done: float = 0.0
    told: int = 0
    left: threading.Event = field(default_factory=threading.Event)


class PodReplicas:
    """A stream to the leader's bus for each ready pod of the workloads that have a load.

    `load_rps` by workload, which `label` of a pod names; `joins`: where the leader listens now.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        joins: Callable[[], str],
        load_rps: dict[str, float],
        *,
        label: str = "app",
        model: str = "tiny",
    ) -> None:
        self.load_rps = load_rps
        self._label = label
        self._model = model
        self._api = api
        self._namespace = namespace
        self._joins = joins
        self._stopped = threading.Event()
        self._threads: dict[tuple[str, str], tuple[_Replica, threading.Thread]] = {}
        self._sharing: dict[str, int] = {}
        self._keeper = threading.Thread(target=self._keep)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._keeper.join()

    def _keep(self) -> None:
        while not self._stopped.wait(0.1):
            address = self._joins()
            ready = {
                (pod["metadata"]["name"], address): pod["metadata"]["labels"].get(self._label, "")
                for pod in self._api.all_of("pods", self._namespace)
                if is_ready(pod) and "deletionTimestamp" not in pod["metadata"] and address
            }
            self._sharing = {name: max(1, list(ready.values()).count(name)) for name in self.load_rps}
            for key in set(self._threads) - set(ready):
                self._threads.pop(key)[0].left.set()
            for key in set(ready) - set(self._threads):
                replica = _Replica(time.monotonic())
                thread = threading.Thread(target=self._run, args=(*key, ready[key], replica))
                self._threads[key] = replica, thread
                thread.start()
        for replica, _ in self._threads.values():
            replica.left.set()
        for _, thread in self._threads.values():
            thread.join()

    def _run(self, name: str, address: str, workload: str, replica: _Replica) -> None:
        with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            stub: Any = FleetStub(channel)
            try:
                for point in stub.Join(self._reports(name, workload, replica)):
                    replica.told = point.version
            except grpc.RpcError:
                return  # the leader has gone: the next one is joined

    def _reports(self, name: str, workload: str, replica: _Replica) -> Iterator[fleet_pb2.ReplicaReport]:
        sequence = 0
        while not replica.left.wait(REPORT_EVERY_S):
            sequence += 1
            share_rps = self.load_rps.get(workload, 0.0) / self._sharing.get(workload, 1)
            replica.done += share_rps * REPORT_EVERY_S
            yield self._report(name, workload, replica, sequence, share_rps)

    def _report(
        self, name: str, workload: str, replica: _Replica, sequence: int, share_rps: float
    ) -> fleet_pb2.ReplicaReport:
        done = int(replica.done)
        samples = max(1, int(share_rps * REPORT_EVERY_S))
        awake_s = time.monotonic() - replica.began_s
        return fleet_pb2.ReplicaReport(
            replica_id=name,
            model=self._model,
            variant="int8",
            state=fleet_pb2.REPLICA_STATE_READY,
            interval_seconds=REPORT_EVERY_S,
            sequence=sequence,
            arrivals_total=done,
            completions_total=done,
            texts_total=done,
            tokens_total=TEXT_TOKENS * done,
            padded_tokens_total=TEXT_TOKENS * done,
            batch_sizes_total={1: done},
            busy_seconds_total=_SERVICE_S * done,
            latency_sketch=encode([2 * _SERVICE_S] * samples),
            start_up_seconds=2.0,
            operating_point_version=replica.told,
            host="node-1",
            fleet=f"{self._namespace}/{workload}",
            power=fleet_pb2.Power(
                source="modelled", device=f"process:{name}", joules_total=2.0 * awake_s, watts=2.0
            ),
        )


def until(condition: Callable[[], object], what: str, within_s: float = START_WITHIN_S) -> None:
    """Waits for what processes bring about. However busy the machine is."""
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, f"never: {what}"
        time.sleep(0.02)
