"""What fine-tuning came to, as `report.json` holds it.

Pure. Owns the report's shape (docs/finetune.md). Called by `finetune`, and by `card.run`, which shows the
energy.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from minwatt.v1.model_dir import Sha256
from modelkit.scoring.task_scores import TaskScore

REPORT_FILE = "report.json"
_JOULES_PER_KWH = 3.6e6


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingEnergy(_Frozen):
    """What the training took, all processes together, those parts among it that a kill cut off.

    `joules` is None where a meter could not be read throughout; `gco2` where no intensity was stated.
    """

    source: str  # of the joules: rapl, nvml or modelled
    note: str
    device: str
    processes: int
    duration_s: float
    joules: float | None
    kwh: float | None
    gco2_per_kwh: float | None
    gco2: float | None

    @classmethod
    def of(
        cls,
        meter: tuple[str, str],
        device: str,
        processes: int,
        spent: tuple[float | None, float],
        gco2_per_kwh: float | None,
    ) -> TrainingEnergy:
        """`meter`: source and note. `spent`: joules and seconds."""
        (source, note), (joules, duration_s) = meter, spent
        measured = cls(
            source=source,
            note=note,
            device=device,
            processes=processes,
            duration_s=duration_s,
            joules=joules,
            kwh=None if joules is None else joules / _JOULES_PER_KWH,
            gco2_per_kwh=None,
            gco2=None,
        )
        return measured if gco2_per_kwh is None else measured.at(gco2_per_kwh)

    def at(self, gco2_per_kwh: float) -> TrainingEnergy:
        """The same on a grid of that intensity."""
        gco2 = None if self.kwh is None else self.kwh * gco2_per_kwh
        return self.model_copy(update={"gco2_per_kwh": gco2_per_kwh, "gco2": gco2})

    def in_words(self) -> str:
        """One line, with what kind of figure the joules are."""
        minutes = (
            f"{self.duration_s / 60:.1f} minutes" if self.duration_s >= 120 else f"{self.duration_s:.0f} s"
        )
        where = f"{minutes} on {self.device}"
        if self.joules is None or self.kwh is None:
            return f"{where}; joules are not known: {self.source} could not be read throughout"
        carbon = "" if self.gco2 is None else f", {self.gco2:.3g} gCO2 at {self.gco2_per_kwh:g} g a kWh"
        return f"{where}, {self.joules:.4g} J = {self.kwh:.3g} kWh{carbon} ({self.source}; {self.note})"


class Forgetting(_Frozen):
    """A task's score on earlier texts: of the checkpoint that was gone on from, and of the model now."""

    task: str
    file: str
    examples: int
    before: float
    after: float

    @property
    def lost(self) -> float:
        return self.before - self.after


class FinetuneReport(_Frozen):
    """Each task's scores, what was said of the data, what was forgotten, and what the training took."""

    model: str
    version: str
    fp32_sha256: Sha256  # of the graph that this is the report of
    tasks: tuple[TaskScore, ...]
    notes: tuple[str, ...]  # on the data
    forgetting: tuple[Forgetting, ...]
    published: bool  # false: more was forgotten than allowed, and the model directory is as it was
    energy: TrainingEnergy
