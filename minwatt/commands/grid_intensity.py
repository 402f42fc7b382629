"""gCO2 a kWh as a user states it, or a grid's mean from a file. Called by `model card` and `measure`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minwatt.v1.errors import UsageError
from modelkit.card.measurements import GridIntensity
from scaler.carbon import read_intensity

CARBON_HELP = "Intensity file (t_s,timestamp_utc,gco2_per_kwh): its mean."
STATED_HELP = "gCO2 a kWh, stated by you."
_MOST_GCO2_PER_KWH = 10_000.0  # ten times what the dirtiest coal emits


def intensity_of(stated: float | None, file: Path | None) -> GridIntensity | None:
    """None: neither was given. Raises UsageError."""
    if stated is not None and file is not None:
        raise UsageError("--carbon: goes without --grid-intensity; give one of the two")
    if stated is not None:
        if not 0 <= stated <= _MOST_GCO2_PER_KWH:
            allowed = f"gCO2 a kWh, at least 0, up to {_MOST_GCO2_PER_KWH:g}"
            raise UsageError(f"--grid-intensity = {stated:g}: allowed: {allowed}")
        return GridIntensity(source="stated", gco2_per_kwh=stated, low=stated, high=stated)
    if file is None:
        return None
    read = read_intensity(file)
    known = read.gco2_per_kwh[~np.isnan(read.gco2_per_kwh)]
    if not len(known):
        raise UsageError(f"{file}: no row has a value; allowed: at least one")
    if known.max() > _MOST_GCO2_PER_KWH:
        raise UsageError(f"{file}: gco2_per_kwh = {known.max():g}: allowed: up to {_MOST_GCO2_PER_KWH:g}")
    source = f"{file.name}, from {read.first_utc}, mean of {len(known)} of {len(read.gco2_per_kwh)} rows"
    return GridIntensity(
        source=source, gco2_per_kwh=float(known.mean()), low=float(known.min()), high=float(known.max())
    )
