"""What a training took, of all its processes together. Called by `finetune` and `distil`. Needs torch (the
`train` extra).
"""

from __future__ import annotations

import torch

from modelkit.scoring.finetune_report import TrainingEnergy
from modelkit.training.processes import Processes
from modelkit.training.spent import Spent, note_on


def energy_of(spent: Spent, processes: Processes, gco2_per_kwh: float | None) -> TrainingEnergy:
    """What all processes spent together; each calls this."""
    parts = processes.of_all((spent.joules, spent.duration_s))
    joules = [part for part, _ in parts if part is not None]
    return TrainingEnergy.of(
        (spent.source, note_on(spent.source)),
        _device_name(processes.device),
        processes.count,
        (sum(joules) if len(joules) == len(parts) else None, max(seconds for _, seconds in parts)),
        gco2_per_kwh,
    )


def card_of(device: torch.device) -> str | None:
    """The UUID of the card that computes; None on a CPU."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None


def _device_name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
