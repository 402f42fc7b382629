"""How true the simulator is: some minutes of real processes, and the same minutes simulated.

    python -m bench.validate [--trace T --time-scale 60] [--minutes 3] [--peak-rps R] [--replicas N]

Plays traffic through `minwatt up` and `minwatt replay` with the shipped, measured profile and records the run
under --out. Then simulates every request of it twice: with the fleet as it was recorded, which checks the
physics alone, and with the scaler in the loop, which checks all. Prints p50, p99, mean batch and joules with
their errors. `--report-only` sends nothing and computes the comparison anew from the recorded run.

The machine must do nothing else meanwhile: load, replicas and scaler share its cores as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.recorded import AsRecorded, Figures, Recorded, read_recorded
from examples.demo.processes import MINWATT, DemoError, fleet
from minwatt.resources import default_policy, default_profile
from minwatt.v1.errors import UsageError
from scaler.inputs import Inputs, read_inputs
from scaler.operating_point import OperatingPoint
from scaler.simulate.contender import Contender
from scaler.simulate.exact import ExactServing
from scaler.simulate.fleet import Serving
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.run import play
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World

BIN_S = 1.0
RUN = "real"
WIDTH = 110
# What is aimed for: of p99 20%, of the mean batch and the joules 10%.
ROWS = (
    ("p50 ms", "p50_ms", None),
    ("p99 ms", "p99_ms", 0.2),
    ("mean batch", "batch_mean", 0.1),
    ("joules", "energy_j", 0.1),
    ("replicas", "replicas_mean", None),
)
_Floats = NDArray[np.float64]


def main() -> int:
    options = _options()
    console = Console(width=WIDTH)
    try:
        inputs = read_inputs(options.policy, default_profile(), options.replicas)
        if not options.report_only:
            _play_real(options, console)
        slo_latency_s = inputs.settings.policy.spec.slo.latency_s
        log = options.out / "fleet" / "fleet.jsonl"
        recorded = read_recorded(options.out / RUN, log, slo_latency_s)
    except (DemoError, UsageError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        return 2
    _compare(recorded, inputs, options.seed, console)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.validate", description=__doc__)
    parser.add_argument("--policy", type=Path, default=default_policy())
    parser.add_argument("--trace", type=Path, help="default: a diurnal curve with a flash crowd")
    parser.add_argument("--time-scale", type=float, help="of the trace: 60 plays an hour in a minute")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--peak-rps", type=float, default=250.0, help="the busiest second")
    parser.add_argument("--replicas", type=int, help="always so many; default: as the scaler decides")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/validate"))
    return parser.parse_args()


def _play_real(options: argparse.Namespace, console: Console) -> None:
    """Raises DemoError when a process fails."""
    log = options.out / "fleet"
    for earlier in (log, options.out / RUN):
        shutil.rmtree(earlier, ignore_errors=True)
    log.mkdir(parents=True)
    console.print(f"{options.minutes:g} min of real processes, up to {options.peak_rps:g} requests/s …")
    with fleet(options.policy, options.replicas, log) as fleet_at, (log / "replay.log").open("w") as out:
        command = [*MINWATT, "replay", "--target", fleet_at.grpc, *_load_flags(options)]
        code = subprocess.run(command, stdout=out, stderr=out, check=False).returncode  # noqa: S603
    if code not in (0, 1):  # 1: the SLO was missed, which is for the comparison to say
        raise DemoError(f"minwatt replay ended with code {code}; see {log / 'replay.log'}")


def _load_flags(options: argparse.Namespace) -> list[str]:
    flags = ["--name", RUN, "--out", options.out, "--fleet-log", options.out / "fleet" / "fleet.jsonl"]
    flags += ["--duration", f"{60 * options.minutes:g}s", "--peak-rps", options.peak_rps]
    flags += ["--seed", options.seed]
    flags += ["--trace", options.trace] if options.trace else ["--generate", "diurnal"]
    if options.time_scale:
        flags += ["--time-scale", options.time_scale]
    return [str(flag) for flag in flags]


def _compare(recorded: Recorded, inputs: Inputs, seed: int, console: Console) -> None:
    settings = inputs.settings
    counts = _counts(recorded)
    # As the live scaler does, it goes by the length of the texts that come, not of those that were measured.
    profile = settings.profile.model_copy(update={"text_tokens": recorded.text_tokens})
    world = World(
        profile,
        settings.policy,
        Traffic(BIN_S, counts),
        service_noise=profile.variant().service_time.residual_fraction or 0.05,
        seed=seed,
    )
    fleet_again = AsRecorded(
        recorded, world.slo_latency_s, profile.replica.max_batch_tokens, profile.start_up.seconds
    )
    table = Table("", "real", "recorded fleet, simulated", "error", "scaler in the loop", "error", "aim")
    physics = _simulated(world, fleet_again, fleet_again.initial, recorded)
    whole = _simulated(world, Minwatt(world, settings.plan_rules), fleet_again.initial, recorded)
    for title, name, aim in ROWS:
        real, one, two = (getattr(figures, name) for figures in (recorded.figures, physics, whole))
        errors = (one / real - 1, two / real - 1)
        table.add_row(
            title,
            f"{real:.2f}",
            *(f"{one:.2f}", f"{errors[0]:+.1%}", f"{two:.2f}", f"{errors[1]:+.1%}"),
            f"±{aim:.0%}" if aim else "",
        )
    shares = [figures.over_slo_fraction for figures in (recorded.figures, physics, whole)]
    table.add_row("over the SLO", f"{shares[0]:.2%}", f"{shares[1]:.2%}", "", f"{shares[2]:.2%}", "", "")
    console.print(inputs.profile_line)
    console.print(
        f"{len(recorded.sent_s):,} requests in {recorded.seconds:g} s, {recorded.text_tokens:.1f} padded"
        f" tokens a text, service times ±{world.service_noise:.0%}"
    )
    console.print(table)


def _counts(recorded: Recorded) -> _Floats:
    bins = int(np.ceil(recorded.seconds / BIN_S))
    seconds = np.minimum((recorded.sent_s / BIN_S).astype(np.int64), bins - 1)
    return np.bincount(seconds, minlength=bins).astype(np.float64)


def _simulated(world: World, contender: Contender, initial: int, recorded: Recorded) -> Figures:
    """Every request at the moment it was sent."""

    def sent(from_s: float, until_s: float, _: float) -> _Floats:
        first, last = np.searchsorted(recorded.sent_s, (from_s, until_s))
        return recorded.sent_s[first:last]

    def serving(in_world: World, point: OperatingPoint) -> Serving:
        return ExactServing(in_world, point, sent)

    outcome = play(world, contender, initial, world.traffic.counts, serving)
    return Figures(
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        batch_mean=outcome.batch_mean,
        energy_j=outcome.energy_j,
        replicas_mean=outcome.replicas_mean,
        over_slo_fraction=outcome.over_slo_fraction,
    )


if __name__ == "__main__":
    sys.exit(main())
