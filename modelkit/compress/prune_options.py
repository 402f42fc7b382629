"""What pruning is told. Imports no torch. Called by `prune` and `commands.prune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from minwatt.v1.errors import UsageError
from modelkit.data.dataset import TaskFiles
from modelkit.recipe import TrainingOptions

ImportanceKind = Literal["fisher", "l1"]
IMPORTANCE: tuple[ImportanceKind, ...] = ("fisher", "l1")
MOST = 0.75  # of a layer's heads or units: the highest share that is scanned
RECOVERY_EPOCHS = 2


@dataclass(frozen=True)
class PruneOptions:
    """`heads`, `width` and `zeros` are shares of all there are, 0 for none; `rank` or `energy`, or neither,
    for the feed-forward matrices. `training.epochs` 0: no recovery; with `teacher`, the unpruned model
    teaches in it."""

    model_dir: Path
    tasks: tuple[TaskFiles, ...]
    out_dir: Path
    name: str
    version: str = "1"
    heads: float = 0.0
    width: float = 0.0
    rank: int | None = None
    energy: float | None = None
    zeros: float = 0.0
    importance: ImportanceKind = "fisher"
    teacher: bool = False
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(epochs=RECOVERY_EPOCHS))

    @property
    def is_low_rank(self) -> bool:
        return self.rank is not None or self.energy is not None

    def check(self) -> None:
        """Raises UsageError on what can't be done."""
        for name, share, most in (
            ("heads", self.heads, MOST),
            ("width", self.width, MOST),
            ("zeros", self.zeros, 0.99),
        ):
            if not 0 <= share <= most:
                raise UsageError(f"{name} = {share}: allowed: 0 to {most}")
        if self.rank is not None and self.energy is not None:
            raise UsageError("rank and energy: both are given; each says which rank: allowed: one of them")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"rank = {self.rank}: allowed: 1 or more")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise UsageError(f"energy = {self.energy}: allowed: above 0, at most 1")
        if not (self.heads or self.width or self.zeros or self.is_low_rank):
            raise UsageError("nothing to prune; expected heads, width, rank, energy or zeros")
        if self.importance not in IMPORTANCE:
            raise UsageError(f"importance = {self.importance!r}: allowed: {', '.join(IMPORTANCE)}")
        if self.out_dir.resolve() == self.model_dir.resolve():
            raise UsageError(
                f"out = {str(self.out_dir)!r}: the model that is pruned; expected another folder"
            )
