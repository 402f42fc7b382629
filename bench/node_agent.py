"""What a replica waits for the node agent: `python -m bench.node_agent`.

A real agent process on the stand-in for NVML, so the driver's own time is not in it.
Prints milliseconds of each kind of call and what the agent takes of a core and of memory.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from service.agent_connection import AgentConnection, Whereabouts
from service.node_agent import AgentClocks, AgentMeter
from tests.e2e.agent_process import AgentProcess
from tests.energy import nvml_stand_in

CARD = """memory_clocks 5001
graphics_clocks 300 900 1400
nvmlDeviceGetPowerUsage 60000
compute_pids
"""
CALLS = 2000
IDLE_S = 10.0


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        AgentProcess(Path(name), environ=nvml_stand_in.environ(CARD)) as agent,
    ):
        where = Whereabouts(agent.socket, {}, lambda _: None)
        clocks = AgentClocks(AgentConnection(where))
        _show("first lease: connect, journal to disk, set", [_took_s(lambda: clocks.lock(300))])
        clocks_mhz = itertools.cycle([1400, 300])
        _show("another clock", [_took_s(lambda: clocks.lock(next(clocks_mhz))) for _ in range(CALLS)])
        clocks.lock(300)
        _show("renewal", [_took_s(lambda: clocks.lock(300)) for _ in range(CALLS)])
        meter = AgentMeter(AgentConnection(where))
        _show("reading", [_took_s(meter.read) for _ in range(CALLS)])
        before_s = _cpu_s(agent.process.pid)
        time.sleep(IDLE_S)
        cores = (_cpu_s(agent.process.pid) - before_s) / IDLE_S
        _print(f"agent, a lease renewed by nobody: {cores:.2%} of a core, {_rss(agent.process.pid)}")
        meter.close()
        clocks.close()
        agent.stop()


def _took_s(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def _show(what: str, took_s: list[float]) -> None:
    took_s.sort()
    p50, p99 = (1e3 * took_s[int(len(took_s) * share)] for share in (0.5, 0.99))
    spread = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(took_s)}" if len(took_s) > 1 else f"{p50:.2f} ms"
    _print(f"{what}: {spread}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    return f"{kilobytes / 1024:.0f} MiB resident"


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
