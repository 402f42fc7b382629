"""`make demo`: the same traffic through a fixed fleet and through minwatt's scaler, by real processes.

Writes report.html and report.json under out/demo/. Exit code 1 when a request was refused or failed or the
scaled run missed the SLO, 2 when a process failed, 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from bench.serving.cpu import machine_busy_s
from examples.demo.live import rows_of, view
from examples.demo.processes import DemoError, Load, fleet, replay
from loadtest.report import RunReport, load_run, write_report
from loadtest.tables import headline, runs_table, warnings
from minwatt.commands.grid import Cell
from minwatt.commands.measure import PROBE_S, closed_loop_rps
from scaler.policy import Policy, load_policy

POLICY = Path(__file__).parent / "policy.yaml"
REFRESH_S = 0.5
PROBE = Cell(
    variant="int8", max_batch_texts=16, max_delay_s=0.0, text_tokens=24
)  # about the demo's own texts
# Of what one replica completes: in the afternoon one is not enough, in the night it is more than enough.
# Much above, and a machine's two cores are not enough for any fleet.
PEAK_SHARE = 1.1
_SHARED = 0.1  # cores that others keep busy: from here on it is said


@dataclass(frozen=True, slots=True)
class Busy:
    """What all programs of this machine have computed, and of that this one and those it has waited for."""

    at_s: float
    machine_s: float
    own_s: float

    @staticmethod
    def now() -> Busy:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own_s = sum(one.ru_utime + one.ru_stime for one in used)
        return Busy(time.monotonic(), machine_busy_s(), own_s)

    def others_cores_since(self, earlier: Busy) -> float:
        others_s = (self.machine_s - earlier.machine_s) - (self.own_s - earlier.own_s)
        return max(0.0, others_s / (self.at_s - earlier.at_s))


def main() -> int:
    options = _options()
    console = Console()
    policy = load_policy(POLICY)
    for earlier in ("probe", "fixed", "minwatt"):  # --out may hold other files too
        shutil.rmtree(options.out / earlier, ignore_errors=True)
    try:
        peak_rps = options.peak_rps or _peak_rps(options.out, console)
        load = Load(options.duration, peak_rps, options.seed, policy.spec.slo.latency_s)
        _explain(console, policy, load)
        before = Busy.now()
        fixed = _run("fixed", policy.spec.replicas.max, load, options.out, console)
        scaled = _run("minwatt", None, load, options.out, console)
    except DemoError as error:
        console.print(f"[red]{error}[/red]")
        return 2
    except KeyboardInterrupt:
        console.print("stopped; its processes too")
        return 130
    others_cores = Busy.now().others_cores_since(before)
    write_report([fixed, scaled], options.out)
    return _verdict(console, fixed, scaled, others_cores, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo.run", description=__doc__)
    parser.add_argument("--duration", type=float, default=90.0, help="seconds of traffic a run")
    parser.add_argument("--peak-rps", type=float, help="of the flash crowd; default: by this machine's speed")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    return parser.parse_args()


def _peak_rps(out: Path, console: Console) -> float:
    """A flash crowd that fits this machine, in steps of 10 requests/s."""
    record = out / "probe"
    record.mkdir(parents=True)
    with fleet(POLICY, 1, record) as addresses:
        one_replica_rps = asyncio.run(closed_loop_rps(addresses.grpc, PROBE))
    console.print(
        f"One replica completes {one_replica_rps:.0f} requests/s here (closed loop, {PROBE_S:g} s)."
    )
    return max(10.0, round(PEAK_SHARE * one_replica_rps, -1))


def _explain(console: Console, policy: Policy, load: Load) -> None:
    spec = policy.spec
    console.print(
        f"A day pressed into {load.duration_s:.0f} s, up to {load.peak_rps:.0f} requests/s in a flash crowd,"
        f" twice: a fixed fleet of {spec.replicas.max} replicas, then minwatt's scaler with"
        f" {spec.replicas.min} to {spec.replicas.max}. SLO: p{spec.slo.percentile:g} within"
        f" {1000 * spec.slo.latency_s:.0f} ms, counted from the planned send time.\n"
    )


def _run(name: str, fixed_replicas: int | None, load: Load, out: Path, console: Console) -> RunReport:
    """One run of real processes, shown live; its recording stays in out/NAME/."""
    record = out / name / "fleet"
    record.mkdir(parents=True)
    console.print(f"[bold]{name}[/bold]: starting replicas")
    with (
        fleet(POLICY, fixed_replicas, record) as addresses,
        replay(addresses.grpc, name, load, record, out) as sending,
    ):
        console.print(f"what it does and why, live: {addresses.dashboard}")
        _watch(name, load, sending, record, console)
        if sending.returncode not in (0, 1):
            raise DemoError(
                f"minwatt replay ended with code {sending.returncode}; see {record / 'replay.log'}"
            )
    return load_run(out / name)


def _watch(name: str, load: Load, sending: subprocess.Popen[str], record: Path, console: Console) -> None:
    """Draws the live view until the load has been sent and answered."""
    start_s = time.monotonic()
    with Live(console=console, refresh_per_second=1 / REFRESH_S) as live:
        while True:
            rows, decisions = rows_of(record / "fleet.jsonl"), rows_of(record / "decisions.jsonl")
            live.update(view(name, load, time.monotonic() - start_s, rows, decisions))
            try:
                sending.wait(REFRESH_S)
            except subprocess.TimeoutExpired:
                continue
            break
    if not console.is_terminal:
        console.print()  # rich ends the panel's last line on a terminal alone


def _verdict(console: Console, fixed: RunReport, scaled: RunReport, others_cores: float, out: Path) -> int:
    """Prints the comparison; the exit code says whether the scaled run kept its promise."""
    console.print(runs_table([fixed, scaled]))
    for line in (*headline([fixed, scaled]), *warnings([fixed, scaled])):
        console.print(line)
    console.print(f"report: {out / 'report.html'} · figures: {out / 'report.json'}")
    lost = sum(run.requests - run.completed for run in (fixed, scaled))
    if lost:
        console.print(f"[red]{lost} requests were refused or failed[/red]")
    if not scaled.slo_met:
        console.print("[red]the scaled run missed the SLO[/red]")
    if others_cores > _SHARED:
        console.print(
            f"[yellow]Other programs kept {others_cores:.1f} of {os.cpu_count()} cores busy meanwhile:"
            " times, refusals and the SLO are theirs too.[/yellow]"
        )
    return 1 if lost or not scaled.slo_met else 0


if __name__ == "__main__":
    sys.exit(main())
