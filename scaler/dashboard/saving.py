"""What a fixed fleet would have drawn more: a line of the page, and an estimate.

Pure. The fixed fleet is as large as this one ever was in the time that is looked at, as somebody would have
had to size it. The load costs it what it cost here; the replicas that did not run here would have idled. So
larger batches in a smaller fleet count for nothing, which makes the estimate a little low. Called by `board`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saving:
    """`running_s`: replicas times seconds. `idle_w`: what an idle one draws beyond its empty place."""

    idle_w: float
    most: int = 0
    seconds: float = 0.0
    running_s: float = 0.0

    def after(self, running: int, elapsed_s: float) -> Saving:
        """With `elapsed_s` in which so many ran."""
        return Saving(
            self.idle_w,
            max(self.most, running),
            self.seconds + elapsed_s,
            self.running_s + running * elapsed_s,
        )

    @property
    def joules(self) -> float:
        return self.idle_w * (self.most * self.seconds - self.running_s)

    def share(self, fleet_j: float) -> float | None:
        """Of what the fixed fleet would have drawn; None before anything was drawn."""
        fixed_j = fleet_j + self.joules
        return self.joules / fixed_j if fixed_j > 0 else None
