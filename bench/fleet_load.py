"""Replicas that only report: each once a second on a connection of its own, as `service/fleet_redis.py` does.

    python -m bench.fleet_load PORT FLEET FIRST LAST

Started by `bench.fleet` until it is terminated; prints how many reports it sent each second. A report is made
from a replica's own fields, which never change, and the second's, which are the same for all: protobuf takes
the last value it reads. So a load of thousands leaves most of the machine to what is measured.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Sequence

import numpy as np

from minwatt.v1 import fleet_pb2
from minwatt.v1.fleet_keys import REPORT, RETAINED_S, FleetKeys
from scaler.latency_sketch import encode

TEXTS_PER_S = 60
SKETCHES = 500  # different ones
READ_BYTES = 65_536


class Load:
    def __init__(self, port: int, fleet: str, replicas: Sequence[int]) -> None:
        self._keys = FleetKeys.of(fleet)
        self._replicas = replicas
        self._own = [_own_fields(fleet, replica) for replica in replicas]
        draw = np.random.default_rng(replicas[0])
        self._sketches = [encode(draw.gamma(4.0, 0.004, TEXTS_PER_S)) for _ in range(SKETCHES)]
        self._answers = select.epoll()
        self._sockets = []
        for _ in replicas:
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answers.register(one, select.EPOLLIN)
            self._sockets.append(one)
        self._by_number = {one.fileno(): one for one in self._sockets}
        self.answered = 0

    def second(self, second: int, begin_s: float) -> float:
        """Everybody's report, spread over the second. Returns how late the last one was."""
        late_s = 0.0
        changing = _changing_fields(second)
        # A real replica takes Redis' own time, from its last answer: here all are of one machine.
        oldest_ms = b"%d" % int((time.time() - RETAINED_S) * 1e3)
        for index, one in enumerate(self._sockets):
            if index % 16 == 0:
                due_s = begin_s + index / len(self._sockets)
                late_s = time.monotonic() - due_s
                self.read(max(0.0, -late_s))
            sketch = fleet_pb2.ReplicaReport(latency_sketch=self._sketches[(index + 7 * second) % SKETCHES])
            payload = self._own[index] + changing + sketch.SerializeToString()
            one.send(
                _command(
                    b"XADD", self._keys.reports.encode(), b"MINID", b"~", oldest_ms, b"*", REPORT, payload
                )
            )
        return late_s

    def read(self, wait_s: float) -> None:
        """Answers, for that long."""
        end_s = time.monotonic() + wait_s
        while True:
            for number, _ in self._answers.poll(max(0.0, end_s - time.monotonic())):
                answer = self._by_number[number].recv(READ_BYTES)
                if not answer or answer[:1] == b"-":
                    raise RuntimeError(f"Redis: {answer[:200]!r}")
                self.answered += 1
            if time.monotonic() >= end_s:
                return


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _own_fields(fleet: str, replica: int) -> bytes:
    message = fleet_pb2.ReplicaReport(
        replica_id=f"support-text-7d9f8b6c5-{replica:05d}",
        fleet=fleet,
        model="support-text",
        model_version="1",
        variant="int8",
        state=fleet_pb2.REPLICA_STATE_READY,
        interval_seconds=1.0,
        host=f"node-{replica // 8}",
        address=f"10.{replica // 65_536}.{replica // 256 % 256}.{replica % 256}:8500",
        pid=7,
        start_up_seconds=40.0,
        queue_depth=2,
        in_flight=3,
        operating_point_version=0,
        power=fleet_pb2.Power(source="nvml", device=f"GPU-{replica:036d}", gpu_utilization=0.4),
    )
    if replica % 20 == 0:
        message.refusals_total.update({"queue_full": 2, "deadline": 1})
    return message.SerializeToString()


def _changing_fields(second: int) -> bytes:
    total = TEXTS_PER_S * second
    return fleet_pb2.ReplicaReport(
        sequence=second,
        arrivals_total=total + 3,
        completions_total=total,
        texts_total=total,
        tokens_total=20 * total,
        padded_tokens_total=23 * total,
        batch_sizes_total={size: total // 60 + size for size in (1, 2, 4, 8, 12, 16)},
        busy_seconds_total=0.4 * second,
        reflex_seconds_total=0.01 * second,
        power=fleet_pb2.Power(joules_total=90.0 * second, watts=90.0),
    ).SerializeToString()


def main() -> None:
    port, fleet, first, last = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    load = Load(port, fleet, range(first, last))
    begin_s = time.monotonic()
    second = 0
    while True:
        second += 1
        late_s = load.second(second, begin_s)
        begin_s += 1.0
        load.read(begin_s - time.monotonic())
        print(load.answered, round(max(0.0, late_s), 3), flush=True)  # noqa: T201 - read by bench.fleet
        load.answered = 0


if __name__ == "__main__":
    main()
