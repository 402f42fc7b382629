"""What `minwatt measure` found, in words and as JSON: no watt without its source, and none made up."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from energy import PowerMeter, Tally
from minwatt.commands.output import print_whole
from modelkit.card.measurements import GridIntensity

_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Metered:
    """`drawn` from the command's start to its end, in `seconds`; `idle` before it, None: not asked for."""

    command: list[str]
    exit_code: int
    seconds: float
    drawn: Tally
    idle: Tally | None
    meter: PowerMeter
    intensity: GridIntensity | None

    @property
    def gco2(self) -> float | None:
        """Of the joules that are known; None: no intensity, or no joules."""
        if self.intensity is None or self.drawn.average_w is None:
            return None
        return self.drawn.joules / _JOULES_PER_KWH * self.intensity.gco2_per_kwh


def as_json(metered: Metered) -> str:
    """SI units in the names; null: not known."""
    intensity = metered.intensity
    found: dict[str, Any] = {
        "command": metered.command,
        "exit_code": metered.exit_code,
        "seconds": metered.seconds,
        "device": metered.meter.device,
        **_figures(metered.drawn),
        "gco2": metered.gco2,
        "gco2_per_kwh": None if intensity is None else intensity.gco2_per_kwh,
        "gco2_source": None if intensity is None else intensity.source,
        "idle": None if metered.idle is None else _figures(metered.idle),
    }
    return json.dumps(found, indent=2) + "\n"


def print_metered(metered: Metered, console: Console) -> None:
    drawn = metered.drawn
    title = f"{shlex.join(metered.command)}: {metered.seconds:.1f} s"
    console.print(title, soft_wrap=True, highlight=False, markup=False)
    table = Table()
    for head in ("", "joules", "W, mean", "W, highest", "source"):
        table.add_column(head, justify="left" if head in {"", "source"} else "right")
    table.add_row("command", *_cells(drawn))
    if metered.idle is not None:
        table.add_row("before it", *_cells(metered.idle))
    print_whole(table, console)
    for line in _sentences(metered):
        console.print(line, soft_wrap=True, highlight=False)


def _cells(tally: Tally) -> tuple[str, ...]:
    if tally.average_w is None:
        return ("unknown", "unknown", "unknown", "unknown")
    return (
        f"{tally.joules:.4g}",
        f"{tally.average_w:.4g}",
        "unknown" if tally.peak_w is None else f"{tally.peak_w:.4g}",
        tally.source,
    )


def _sentences(metered: Metered) -> list[str]:
    drawn, idle, lines = metered.drawn, metered.idle, []
    for reason, seconds in drawn.unknown_s.items():
        lines.append(f"unknown for {seconds:.1f} s of it, and not counted: {reason}")
    if "modelled" in drawn.sources:
        idle_w, busy_w = metered.meter.idle_w, metered.meter.busy_w_per_core
        lines.append(f"modelled, not measured: {idle_w:g} W, and {busy_w:g} W a busy core of the command")
    if idle is not None and idle.average_w is not None and drawn.average_w is not None:
        beyond_j = drawn.joules - idle.average_w * drawn.known_s
        lines.append(f"beyond what was drawn before it: {beyond_j:.4g} J ({drawn.source})")
    if metered.intensity is not None:
        gco2 = "unknown" if metered.gco2 is None else f"{metered.gco2:.3g} g"
        lines.append(
            f"gCO2: {gco2}, at {metered.intensity.gco2_per_kwh:.4g} g a kWh ({metered.intensity.source})"
        )
    return lines


def _figures(tally: Tally) -> dict[str, Any]:
    known = tally.average_w is not None
    return {
        "energy_j": tally.joules if known else None,
        "average_w": tally.average_w,
        "peak_w": tally.peak_w,
        "source": tally.source,
        "known_s": tally.known_s,
        "unknown_s": dict(tally.unknown_s),
    }
